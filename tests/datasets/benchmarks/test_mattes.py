"""AM-2K and P3M-10k in their published layouts, written here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_files import SIZE, opened, picture
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from prv2cli.datasets.layouts import DataConfig
from prv2cli.errors import InputError


def matte(path: Path, size: tuple[int, int] = SIZE) -> np.ndarray:
    alpha = np.zeros(size, np.uint8)
    alpha[2:4, 2:5], alpha[2, 2] = 255, 51
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(alpha).save(path)
    return alpha


@pytest.mark.parametrize(
    ("layout", "keys", "pictures", "mattes"),
    [
        ("am2k", {}, "original", "mask"),
        ("p3m", {}, "P3M-500-NP/original_image", "P3M-500-NP/mask"),
        ("p3m", {"subset": "P3M-500-P"}, "P3M-500-P/blurred_image", "P3M-500-P/mask"),
    ],
)
def test_mattes(tmp_path: Path, layout: str, keys: dict[str, str], pictures: str, mattes: str) -> None:
    base = tmp_path / "validation"
    for name in "ab":
        picture(base / pictures / f"m_{name}.jpg")
    alpha = matte(base / mattes / "m_a.png")
    matte(base / mattes / "m_b.png", (3, 3))
    data = opened(layout=layout, root=tmp_path, **keys)
    assert data.names[0] == f"validation/{pictures}/m_a"
    np.testing.assert_allclose(data[0].matte, alpha / 255, rtol=1e-6)
    assert not data[0].valid.any()
    with pytest.raises(InputError, match=r"m_b\.png: not of the size of its picture"):
        data[1]
    with pytest.raises(ValidationError, match="layout"):  # no truth to train on
        TypeAdapter(DataConfig).validate_python({"layout": layout, "root": tmp_path})
