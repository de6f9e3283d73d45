"""MoGe-2 from photograph to metric depth: what the authors' `infer` gives, what is valid, the focal length.

The reference vectors hold `infer`'s results behind a random network, where the authors' solver stops early: so the
focal length and the shift that it found are put in its place. test_point_map.py holds the solver.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_rules import Golden, image
from moge2_files import Wall, as_bytes, published

from prv2cli.checkpoints.authors.convert_file import convert_file, describe
from prv2cli.checkpoints.authors.moge2 import convert_moge2
from prv2cli.checkpoints.model_file import load_strictly, read_config
from prv2cli.coarse.load import load_coarse
from prv2cli.coarse.moge2 import Moge2Network
from prv2cli.errors import CheckpointError, UsageError
from prv2cli.hub.resolve import ModelFile
from prv2cli.model.coarse.moge2 import Moge2Coarse, PointMap, metric_output
from prv2cli.model.coarse.point_map import Camera

VITS = Golden.load("moge2_vits")
CPU = torch.device("cpu")
Load = Callable[[dict[str, Any]], Moge2Network]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """The network of a file in the authors' layout."""

    def from_file(content: dict[str, Any]) -> Moge2Network:
        path = tmp_path / "model.pt"
        path.write_bytes(as_bytes(content))
        network = load_coarse(ModelFile(path, path.name), CPU)
        assert isinstance(network, Moge2Network)
        return network

    return from_file


@pytest.fixture(scope="module")
def wall() -> dict[str, Any]:
    return published(Wall())


@pytest.fixture(scope="module")
def network(wall: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Moge2Network:
    """The network of that file."""
    path = tmp_path_factory.mktemp("wall") / "model.pt"
    path.write_bytes(as_bytes(wall))
    network = load_coarse(ModelFile(path, path.name), CPU)
    assert isinstance(network, Moge2Network)
    return network


@pytest.fixture(scope="module")
def random_points() -> PointMap:
    config, tensors = convert_moge2(VITS.state(), VITS.meta["config"])
    model = Moge2Coarse(config).eval()
    load_strictly(model, tensors)
    with torch.inference_mode():
        return model.map_points(image(VITS.seed, (1, 3, 150, 205)), (6, 8), (150, 205))


@pytest.mark.parametrize("tag", ["default", "fov60"])
def test_infer_of_the_authors(tag: str, random_points: PointMap) -> None:
    solved = VITS.meta["values"]["infer_focal_shift"][tag]
    out = metric_output(random_points, [Camera(solved["focal"][0], solved["shift"][0])])
    assert out.valid is not None
    assert out.focal is not None
    valid = out.valid[0, 0]
    mask = VITS.stored(f"infer_{tag}_mask", valid)
    assert (mask != VITS.arrays[f"infer_{tag}_mask"]).sum() <= 2
    reference = VITS.arrays[f"infer_{tag}_depth"]
    depth = VITS.stored(f"infer_{tag}_depth", torch.where(valid, out.depth[0, 0], math.inf))
    both = np.isfinite(reference) & np.isfinite(depth)
    assert (np.isfinite(reference) != np.isfinite(depth)).sum() <= 2
    assert np.abs(depth[both] - reference[both]).max() < 2e-5 * reference[both].max()
    intrinsics = VITS.arrays[f"infer_{tag}_intrinsics"]
    half_diagonal = math.hypot(150, 205) / 2
    assert float(out.focal[0]) * half_diagonal / 205 == pytest.approx(intrinsics[0, 0], rel=1e-5)
    assert float(out.focal[0]) * half_diagonal / 150 == pytest.approx(intrinsics[1, 1], rel=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_photograph_of_a_wall(network: Moge2Network, dtype: type) -> None:
    """Metres, the camera's focal length in the photograph's pixels, normals, and nothing where the sky is."""
    coarse = network.predict(np.zeros((300, 400, 3), dtype))
    assert (coarse.kind, coarse.unit) == ("depth", "metre")
    rows, columns = coarse.values.shape[-2:]
    assert abs(columns / rows / (400 / 300) - 1) < 0.02
    assert coarse.seen is not None
    horizon = 0.5 + Wall().horizon * math.hypot(300, 400) / 2 / 300  # type: ignore[operator]
    sky = coarse.values[0, 0, : int(horizon * rows) - 1]
    ground = coarse.values[0, 0, int(horizon * rows) + 2 :]
    assert (sky == 0).all()
    assert torch.equal(coarse.seen, coarse.values > 0)
    torch.testing.assert_close(ground, torch.full_like(ground, Wall().depth), rtol=1e-4, atol=0)
    assert coarse.estimated_focal_px == pytest.approx(Wall().focal * 250, rel=1e-4)
    assert coarse.normals is not None
    assert coarse.normals.shape[-2:] == (rows, columns)
    assert torch.allclose(coarse.normals[0, :, -1, -1], torch.tensor([0.0, 0.0, -1.0]))
    assert [feature.shape[1] for feature in coarse.features] == list(network.module.channels)


def test_a_focal_length_that_is_given_moves_the_wall(network: Moge2Network) -> None:
    """With twice the focal length the same picture is of a wall twice as far away; none is estimated."""
    coarse = network.predict(np.zeros((300, 400, 3), np.uint8), focal_px=2 * Wall().focal * 250)
    assert float(coarse.values.max()) == pytest.approx(2 * Wall().depth, rel=1e-4)
    assert coarse.estimated_focal_px is None


def test_without_a_head_for_normals(load: Load) -> None:
    coarse = load(published(Wall(normals=False, horizon=None))).predict(np.zeros((60, 60, 3), np.uint8))
    assert coarse.normals is None
    assert coarse.seen is not None
    assert coarse.seen.all()


@pytest.mark.parametrize(("height", "width"), [(3, 4000), (4000, 3), (1, 1), (60, 80)])
def test_any_shape(height: int, width: int, network: Moge2Network) -> None:
    coarse = network.predict(np.zeros((height, width, 3), np.uint8))
    rows, columns = coarse.values.shape[-2:]
    assert rows <= height
    assert columns <= width
    assert rows * columns <= 4 * 16 * 16 * 24
    assert torch.isfinite(coarse.values).all()


def test_small_photographs_are_seen_with_few_patches(
    network: Moge2Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    grids: list[tuple[int, int]] = []
    whole = network.module.map_points

    def watched(rgb: torch.Tensor, grid: tuple[int, int], *rest: Any) -> Any:
        grids.append(grid)
        return whole(rgb, grid, *rest)

    monkeypatch.setattr(network, "config", network.config.model_copy(update={"tokens": (12, 48)}))
    monkeypatch.setattr(network.module, "map_points", watched)
    for side in (14, 84, 700):
        network.predict(np.zeros((side, side, 3), np.uint8))
    assert grids == [(3, 3), (6, 6), (7, 7)]


def test_a_pickle_that_would_run_code(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(
        {"model_config": {"encoder": np.float64}, "model": {"encoder.backbone.x": torch.ones(1)}}, path
    )
    with pytest.raises(CheckpointError, match="runs none"):
        load_coarse(ModelFile(path, path.name), CPU)


def test_a_missing_head_in_a_file(load: Load, wall: dict[str, Any]) -> None:
    content = copy.copy(wall)
    content["model"] = {k: v for k, v in wall["model"].items() if not k.startswith("mask_head.")}
    with pytest.raises(CheckpointError, match=r"missing.*mask_head"):
        load(content)


def test_conversion_to_a_file_of_ours(wall: dict[str, Any], network: Moge2Network, tmp_path: Path) -> None:
    source, target = tmp_path / "model.pt", tmp_path / "ours.safetensors"
    source.write_bytes(as_bytes(wall))
    conversion = convert_file(source, target)
    assert conversion.kind == "coarse"
    assert conversion.config == read_config(target) == network.config
    assert describe(conversion)["coarse"] == "moge2 vits"
    ours = load_coarse(ModelFile(target, "ours"), CPU)
    rgb = np.zeros((60, 80, 3), np.uint8)
    assert torch.equal(ours.predict(rgb).values, network.predict(rgb).values)
    for flags in ({"max_depth": 20.0}, {"process_size": (448, 448)}, {"refiner_only": True}):
        with pytest.raises(UsageError, match="has no meaning"):
            convert_file(source, target, **flags)
