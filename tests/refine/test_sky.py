"""The sky: behind everything while it is refined, and without depth afterwards."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prv2cli import Refiner
from prv2cli.coarse.network import CoarseDepth
from prv2cli.errors import InputError
from prv2cli.files.disk_array import DiskArray
from prv2cli.refine.sky import BEHIND, Sky, put_behind, sky_of

HORIZON = 0.4  # of the height


class Skyline:
    """A coarse network that sees a slope of 2 to 6 metres, and above it nothing."""

    name, identity = "skyline", "none"

    def __init__(self, *, seen: bool = True) -> None:
        self.seen = seen

    def predict(self, rgb: Any, focal_px: float | None = None) -> CoarseDepth:
        rows, columns = rgb.shape[0] // 4, rgb.shape[1] // 4
        values = torch.linspace(6, 2, rows)[:, None].expand(rows, columns)[None, None].clone()
        seen = torch.ones(1, 1, rows, columns, dtype=torch.bool)
        seen[:, :, : round(HORIZON * rows)] = False
        normals = torch.zeros(1, 3, rows, columns)
        normals[:, 2] = -1
        if not self.seen:
            seen[:] = False
        return CoarseDepth(torch.where(seen, values, 0), seen=seen, estimated_focal_px=321.0, normals=normals)


@pytest.fixture
def skyline(refiner: Refiner) -> Refiner:
    """The shipped refiner behind that network."""
    return Refiner(refiner.checkpoint, Skyline(), device="cpu", precision="fp32")


def picture(height: int = 240, width: int = 320) -> np.ndarray:
    rgb = np.random.default_rng(3).integers(90, 120, (height, width, 3), dtype=np.uint8)
    rgb[: round(HORIZON * height)] += 100
    return rgb


def test_no_depth_above_the_skyline(skyline: Refiner) -> None:
    result = skyline.refine(picture())
    sky = np.isnan(result.depth)
    horizon = round(HORIZON * 240)
    assert sky[: horizon - 3].all()
    assert not sky[horizon + 3 :].any()
    assert result.masked == int(sky.sum())
    below = result.depth[horizon + 12 :]
    expected = np.interp(np.arange(240)[horizon + 12 :], [2, 237], [6, 2])
    assert np.abs(below / expected[:, None] - 1).max() < 0.1
    assert np.isfinite(result.coarse).all()
    assert result.coarse[0, 0] == pytest.approx(BEHIND * result.coarse[round(HORIZON * 60) :].max())


def test_what_else_the_network_knows_is_kept(skyline: Refiner) -> None:
    result = skyline.refine(picture())
    assert (result.focal_px, result.focal_origin) == (321.0, "estimated")
    assert result.normals is not None
    assert result.normals.shape == (3, 60, 80)
    given = skyline.refine(picture(), focal_px=200.0)
    assert (given.focal_px, given.focal_origin) == (200.0, "given")


def test_confidence_is_not_known_in_the_sky(skyline: Refiner) -> None:
    result = skyline.refine(picture(), confidence=True)
    assert result.confidence is not None
    assert np.isnan(result.confidence[np.isnan(result.depth)]).all()
    assert not np.isnan(result.confidence[-100:]).any()


def test_on_disk_as_in_memory(skyline: Refiner, tmp_path: Path) -> None:
    rgb = picture()
    expected = skyline.refine(rgb)
    with DiskArray(rgb.shape, rgb.dtype, tmp_path) as stored:
        stored[:] = rgb
        with skyline.refine(stored) as found:
            np.testing.assert_array_equal(found.depth[:], expected.depth)
            assert found.masked == expected.masked


def test_a_photograph_of_the_sky_alone(refiner: Refiner) -> None:
    with pytest.raises(InputError, match="no surface"):
        Refiner(refiner.checkpoint, Skyline(seen=False), device="cpu").refine(picture())


def test_far_behind() -> None:
    seen = torch.tensor([[[[True, False], [True, True]]]])
    values = torch.tensor([[[[1.0, 9.0], [2.0, 3.0]]]])
    assert put_behind(values, seen).flatten().tolist() == [1, 3 * BEHIND, 2, 3]


@pytest.mark.parametrize("seen", [None, torch.ones(1, 1, 2, 2, dtype=torch.bool)])
def test_no_sky(seen: torch.Tensor | None) -> None:
    assert sky_of(CoarseDepth(torch.ones(1, 1, 2, 2), seen=seen)) is None


def test_a_bundle_goes_by_its_networks_map() -> None:
    seen = torch.tensor([[[[True, False, True], [True, True, False]]]])
    found = sky_of(CoarseDepth(torch.ones(1, 1, 2, 3), seen=seen, as_seen=True))
    assert found is not None
    depth = np.full((2, 6), 1e9, np.float32)
    rows = [found.of(depth[:1], slice(y, y + 1), 4)[0].astype(int).tolist() for y in range(4)]
    assert rows == [[0, 0, 1, 1, 0, 0]] * 2 + [[0, 0, 0, 0, 1, 1]] * 2


def test_the_limit_lies_between_the_farthest_surface_and_the_sky() -> None:
    seen = torch.tensor([[[[True, False]]]])
    found = sky_of(CoarseDepth(torch.tensor([[[[5.0, 20.0]]]]), seen=seen))
    assert isinstance(found, Sky)
    assert found.limit == pytest.approx(5 * math.sqrt(BEHIND))
