"""benchmarks/gpu.py, on a processor: what it gives the network is what the network takes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch

from prv2cli import Refiner

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def _script() -> Any:
    spec = importlib.util.spec_from_file_location("gpu_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tiles_are_those_of_the_embedded_refiner(refiner: Refiner) -> None:
    with torch.inference_mode():
        pixels, depth, features = _script().tile_inputs(refiner, 64, 2)
        refined = refiner.loop.network.refine_cropped(pixels, depth, features)
    assert refined.shape == depth.shape == (2, 1, 64, 64)
    assert torch.isfinite(refined).all()
