"""Synth4K as its authors' loader reads it, written here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_files import SIZE, npy, opened, picture, ramp, text
from PIL import Image

from prv2cli.errors import UsageError


def test_synth4k(tmp_path: Path) -> None:
    for game in ("CyberPunk", "deadisland"):
        base = tmp_path / f"datasets/{game}/scene"
        picture(base / "rgb/0001.png")
        npy(base / "depth/0001.npy", ramp(2, 200))
        text(tmp_path / f"processed_datasets/{game}/val.txt", "scene/rgb/0001.png scene/depth/0001.npy\n")
    detail = np.zeros(SIZE, np.uint8)
    detail[3] = 255
    folder = tmp_path / "datasets/CyberPunk/scene/highfreq_mask"
    folder.mkdir()
    Image.fromarray(detail).save(folder / "0001_highfreq_mask.png")
    data = opened(layout="synth4k", root=tmp_path)
    assert list(data.names) == ["CyberPunk/scene/rgb/0001", "deadisland/scene/rgb/0001"]
    np.testing.assert_array_equal(data[1].truth, ramp(2, 200))
    fine = opened(layout="synth4k", root=tmp_path, game="cyberpunk", detail=True)
    assert len(fine) == 1
    np.testing.assert_array_equal(fine[0].valid, detail > 0)
    with pytest.raises(UsageError, match=r"data\.game doom: no list of it \(found: cyberpunk, deadisland\)"):
        opened(layout="synth4k", root=tmp_path, game="doom")
