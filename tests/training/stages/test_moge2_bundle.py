"""A bundle on MoGe-2's features: trained behind the published network as it is, then used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from moge2_files import TOKENS, WIDTHS, Wall, as_bytes, published
from training_loop import built, configured, first_batch, train
from training_runs import REFINER

from prv2cli import Refiner
from prv2cli.checkpoints.model_file import read_checkpoint
from prv2cli.errors import ConfigError
from prv2cli.model.config import parse_model_config
from prv2cli.training.stages.end_to_end import end_to_end_step

WALL = Wall()
MODEL: dict[str, Any] = {
    "kind": "bundle",
    "process_size": [64, 96],
    "coarse": {"kind": "moge2", "widths": list(WIDTHS), "tokens": list(TOKENS)},
    "refiner": {
        **REFINER,
        "coarse": {"kind": "external", "channels": [*WIDTHS[::-1], WIDTHS[0]]},
    },
}


@pytest.fixture(scope="module")
def moge2(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("moge2") / "model.pt"
    path.write_bytes(as_bytes(published(WALL)))
    return str(path)


def test_the_refiner_learns_and_the_network_stays(data: Path) -> None:
    config = configured(data, "refine", model=MODEL, optimiser={"coarse_lr": 0})
    model = built(config)
    output = end_to_end_step(model, first_batch(config), 0.0, config)
    output.loss.backward()
    assert torch.isfinite(output.loss)
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == name.startswith("refiner."), name


def test_the_network_can_learn_too(data: Path) -> None:
    """But for what no loss looks at."""
    config = configured(data, "refine", model=MODEL)
    assert config.has_unused_weights
    model = built(config)
    end_to_end_step(model, first_batch(config), 0.0, config).loss.backward()
    unused = {n.split(".")[1] for n, p in model.named_parameters() if p.grad is None}
    assert unused == {"validity", "normals"}


def test_a_trained_bundle_refines(data: Path, tmp_path: Path, moge2: str) -> None:
    """Weights as published in, one file out; depth where the network sees a surface, and its focal length."""
    out = train(tmp_path, data, "refine", model=MODEL, coarse_from=moge2, optimiser={"coarse_lr": 0})
    checkpoint = read_checkpoint(out / "last.safetensors")
    assert float(checkpoint.tensors["coarse.scale.4.bias"][0]) == pytest.approx(np.log(WALL.scale))
    refiner = Refiner(checkpoint, device="cpu", precision="fp32")
    rgb = np.random.default_rng(0).integers(0, 256, (128, 192, 3), dtype=np.uint8)
    result = refiner.refine(rgb)
    assert result.unit == "metre"
    assert result.focal_origin == "estimated"
    assert result.focal_px == pytest.approx(WALL.focal * np.hypot(128, 192) / 2, rel=1e-3)
    sky = np.isnan(result.depth)
    assert result.masked == int(sky.sum())
    assert sky[:20].all()
    assert not sky[80:].any()
    assert result.normals is not None
    # At another aspect the network sees a distorted picture: its camera is not the photograph's.
    assert refiner.refine(rgb[:, :128]).focal_px is None


def test_depth_anything_3_makes_no_bundle() -> None:
    with pytest.raises(ConfigError, match="da3 gives metres only with a focal length"):
        parse_model_config({**MODEL, "coarse": {"kind": "da3"}}, "test")
