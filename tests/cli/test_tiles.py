"""One photograph is cut into the same tiles whoever asks: `prv2 refine`, `batch`, `eval`, a dry run, and Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from training_runs import BUNDLE

from prv2cli import Refiner
from prv2cli.checkpoints.model_file import save_checkpoint
from prv2cli.cli.app import main
from prv2cli.model.build import build_model
from prv2cli.model.config import BundleConfig

SIZE = (250, 330)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random bundle, whose tiles of (96, 128) are smaller than those that prv2 would choose."""
    config = BundleConfig.model_validate({**BUNDLE, "process_size": [96, 128]})
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("bundle") / "bundle.safetensors"
    save_checkpoint(path, build_model(config), config, {})
    return path


@pytest.fixture
def photo(tmp_path: Path, photograph: np.ndarray) -> Path:
    path = tmp_path / "photos" / "photo.png"
    path.parent.mkdir()
    Image.fromarray(photograph[: SIZE[0], : SIZE[1]]).save(path)
    return path


def _told(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """What the program prints with --json."""
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments), "--json"])
    out, err = capsys.readouterr()
    assert ended.value.code == 0, err
    return json.loads(out)


def test_a_bundle_is_used_at_the_tile_size_it_was_trained_at(
    bundle: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refiner = Refiner.from_pretrained(bundle, coarse=None, device="cpu", precision="fp32")
    with Image.open(photo) as picture:
        whole = refiner.refine(np.asarray(picture))
    assert whole.tiles > 1  # the photograph would fit in one that prv2 chose
    one, many = tmp_path / "one.npy", tmp_path / "many"
    with_bundle = ("--model", bundle, "--device", "cpu", "--precision", "fp32")
    assert _told(capsys, "refine", photo, "-o", one, *with_bundle)["tiling"] == whole.tiling
    assert _told(capsys, "refine", photo, "--dry-run", *with_bundle)["tiling"] == whole.tiling
    batch = _told(capsys, "batch", photo.parent, "-o", many, "--format", "npy", *with_bundle)
    assert batch["tiling"] == whole.tiling
    for path in (one, many / "photo.npy"):
        assert np.array_equal(np.load(path), whole.depth)
    # `prv2 eval` tells figures only: against what was just made they are zero where its tiles are the same.
    (tmp_path / "list.csv").write_text(f"image,depth\n{photo},{one}\n")
    config = f"data: {{layout: manifest, file: {tmp_path / 'list.csv'}}}\nmodel: {bundle}\n"
    (tmp_path / "eval.yaml").write_text(config + "device: cpu\nprecision: fp32\n")
    means = _told(capsys, "eval", "--config", tmp_path / "eval.yaml")["means"]["refined"]
    assert (means["abs_rel"], means["rmse"]) == (0, 0)
