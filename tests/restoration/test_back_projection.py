"""Back-projection: what a blur took from thin parts comes back, edges stay where they are, and nothing else moves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from prv2cli.checkpoints.model_file import Checkpoint
from prv2cli.errors import ConfigError
from prv2cli.files.disk_array import DiskArray
from prv2cli.model.config import parse_model_config
from prv2cli.refine.refiner import Refiner
from prv2cli.restoration import back_projection
from prv2cli.restoration.back_projection import (
    GAINS,
    Correction,
    apply,
    average,
    back_project,
    difference,
    find_correction,
    on_grid,
)
from prv2cli.restoration.blur import blur_between

SIGMA = 6.0


def blurred(values: np.ndarray, sigma: float = SIGMA) -> Tensor:
    """(1, 1, H, W) Gaussian blur in plain space, mirrored at the border."""
    radius = int(4 * sigma) + 1
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).float()
    x = torch.from_numpy(np.pad(values, radius, mode="symmetric"))[None, None]
    return F.conv2d(F.conv2d(x, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))


def corrected(values: np.ndarray | DiskArray, coarse: Tensor, steps: int) -> None:
    """Correct `values` in place."""
    back_project(values, on_grid(values, coarse), steps)


@pytest.fixture
def truth() -> np.ndarray:
    """(180, 240): a slanted ground, boxes, a pole that is narrower than the blur."""
    y, x = np.mgrid[0:180, 0:240].astype(np.float32)
    depth = 0.4 + 0.001 * y + 0.0005 * x
    depth[60:130, 30:100] = -0.6
    depth[140:165, 20:150] = -0.2
    depth[10:45, 60:140] = -0.9
    depth[60:170, 190:230] = -0.8
    depth[:, 160:170] = -0.5
    return depth.astype(np.float32)


@pytest.fixture
def refined(truth: np.ndarray) -> np.ndarray:
    """The edges where they are; the pole as far as the blurred map shows it."""
    depth = truth.copy()
    depth[:, 160:170] = blurred(truth)[0, 0, 90, 165]
    return depth


def test_a_thin_part_gets_its_depth_back(truth: np.ndarray, refined: np.ndarray) -> None:
    pole = np.s_[50:130, 162:168]
    before = np.abs(refined - truth)[pole].mean()
    changed = refined.copy()
    corrected(changed, blurred(truth), 3)
    assert before > 0.3
    assert np.abs(changed - truth)[pole].mean() < before / 2
    assert np.abs(changed - truth)[:, :130].max() < 0.05


def test_edges_stay_where_they_are(truth: np.ndarray, refined: np.ndarray) -> None:
    changed = refined.copy()
    corrected(changed, blurred(truth), 3)
    for column in (30, 100, 160, 170):
        steps = np.abs(np.diff(changed[90, column - 6 : column + 6]))
        assert steps.argmax() == 5
        assert np.delete(steps, 5).max() < 0.05 * steps.max()


def test_what_already_explains_the_coarse_map_stays(truth: np.ndarray) -> None:
    changed = truth.copy()
    corrected(changed, blurred(truth), 2)
    assert np.abs(changed - truth).max() < 0.02
    assert np.abs(changed - truth).mean() < 0.002


def test_noise_is_not_taken_for_what_is_missing(truth: np.ndarray) -> None:
    """A low-resolution pixel's noise is a blurred map's no more than a fine texture would be."""
    grain = np.random.default_rng(5).normal(size=(1, 1, 30, 40)).astype(np.float32)
    noise = 0.1 * F.interpolate(torch.from_numpy(grain), (180, 240), mode="bilinear", align_corners=False)
    changed = truth.copy()
    corrected(changed, blurred(truth) + noise, 2)
    assert np.abs(changed - truth).mean() < 0.4 * float(noise.abs().mean())


def test_without_a_blur_between_them_nothing_happens(truth: np.ndarray) -> None:
    for values in (truth, np.full_like(truth, 0.25)):
        changed = values.copy()
        corrected(changed, torch.from_numpy(values)[None, None], 2)
        assert np.array_equal(changed, values)


def test_no_steps_is_nothing(truth: np.ndarray, refined: np.ndarray) -> None:
    changed = refined.copy()
    corrected(changed, blurred(truth), 0)
    assert np.array_equal(changed, refined)


@pytest.mark.parametrize("sigma", [1.5, 4.0, 11.0, 20.0])
def test_the_blur_is_found(truth: np.ndarray, sigma: float) -> None:
    found = blur_between(torch.from_numpy(truth)[None, None], blurred(truth, sigma))
    assert found == pytest.approx(sigma, rel=0.06)


def test_the_blur_is_told_in_pixels_of_a_map_larger_than_the_grid(truth: np.ndarray) -> None:
    large = truth.repeat(8, axis=0).repeat(8, axis=1)  # 1920 wide, on 768 cells
    found = difference(on_grid(large, blurred(truth)))
    assert found.blur == pytest.approx(8 * SIGMA, rel=0.06)
    assert found.unexplained < 0.05


def test_small_faults_everywhere_are_scattered_more_than_unexplained(truth: np.ndarray) -> None:
    faults = torch.from_numpy(np.random.default_rng(0).normal(0, 0.07, truth.shape).astype(np.float32))
    clean, faulty = (difference(on_grid(truth, blurred(truth) + more)) for more in (0, faults))
    assert clean.scattered < 0.1
    assert faulty.unexplained < 0.1
    assert faulty.scattered > 0.25


def test_the_found_blur_has_no_jumps(truth: np.ndarray) -> None:
    sharp = torch.from_numpy(truth)[None, None]
    found = np.array([blur_between(sharp, blurred(truth, s)) for s in np.linspace(5, 7, 21)])
    assert np.diff(found).min() > 0
    assert np.diff(found).max() < 0.2


def test_near_stays_nearer_whatever_the_coarse_map_says(truth: np.ndarray) -> None:
    wild = blurred(-40 * truth)
    correction = find_correction(average(truth), wild, 5)
    assert correction is not None
    assert correction.gain.min() == GAINS[0]


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (3, 2), (40, 1), (2000, 3)])
def test_any_size(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    coarse = torch.from_numpy(values).mean() + torch.zeros(1, 1, 7, 5)
    changed = values.copy()
    corrected(changed, coarse, 2)
    assert np.isfinite(changed).all()


def test_cells_are_means() -> None:
    values = np.random.default_rng(0).normal(size=(60, 90)).astype(np.float32)
    cells = average(values, side=30)
    means = values.reshape(20, 3, 30, 3).mean(axis=(1, 3))
    squares = np.square(values).reshape(20, 3, 30, 3).mean(axis=(1, 3))
    assert cells.mean[0, 0].numpy() == pytest.approx(means, abs=1e-6)
    assert cells.square[0, 0].numpy() == pytest.approx(squares, abs=1e-6)


def test_a_correction_is_upsampled_bilinearly() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(61, 83)).astype(np.float32)
    gain, offset = (torch.from_numpy(rng.normal(size=(1, 1, 9, 11)).astype(np.float32)) for _ in range(2))
    up = [
        F.interpolate(m, (61, 83), mode="bilinear", align_corners=False)[0, 0].numpy() for m in (gain, offset)
    ]
    expected = values + up[0] * values + up[1]
    apply(Correction(gain, offset), values)
    assert values == pytest.approx(expected, abs=1e-5)


def test_a_map_on_disk_gets_the_same_values(
    truth: np.ndarray, refined: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = refined.copy()
    corrected(whole, blurred(truth), 2)
    monkeypatch.setattr(back_projection, "BAND_PIXELS", 2000)
    on_disk = DiskArray(refined.shape, np.float32, tmp_path)
    on_disk[:] = refined
    corrected(on_disk, blurred(truth), 2)
    assert np.array_equal(on_disk[:], whole)


def test_a_map_larger_than_the_grid(truth: np.ndarray, refined: np.ndarray) -> None:
    large = refined.repeat(5, axis=0).repeat(5, axis=1)
    corrected(large, blurred(truth), 2)
    small = refined.copy()
    corrected(small, blurred(truth), 2)
    assert np.abs(large[2::5, 2::5] - small).mean() < 0.1 * np.abs(small - refined).mean()


def test_the_refiner_uses_it(
    refiner: Refiner, photograph: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the map counts as a blurred one the shipped refiner's result, blurred, is nearer to it than without."""
    monkeypatch.setattr("prv2cli.refine.fuse.BLURRED", np.inf)
    steps = refiner.config.back_projection
    assert steps > 0
    height, width = photograph.shape[:2]
    depth = np.full((height, width), 0.9, np.float32)
    depth[height // 4 : height // 2, width // 4 : width // 2] = 0.2
    depth[:, 3 * width // 4 : 3 * width // 4 + 5] = -0.1
    coarse = blurred(depth, 5).exp()[0, 0].numpy()
    config = refiner.config.model_copy(update={"back_projection": 0})
    checkpoint = replace(refiner.checkpoint, config=config)
    assert isinstance(checkpoint, Checkpoint)
    without = Refiner(checkpoint, None, device="cpu")

    def distance(one: Refiner) -> float:
        found = one.refine(photograph, coarse_depth=coarse).depth
        return float((blurred(np.log(found), 5).exp()[0, 0] - torch.from_numpy(coarse)).abs().mean())

    assert distance(refiner) < 0.8 * distance(without)


def test_metres_are_refused(tmp_path: Path) -> None:
    raw = {"kind": "refiner", "depth_space": "metres", "back_projection": 2, "coarse": {"channels": [8] * 6}}
    with pytest.raises(ConfigError, match="back_projection works in depth_space: normalised-log only"):
        parse_model_config(raw, "x")


@pytest.mark.parametrize("wrong", ["mirrored", "gain", "noise"])
def test_a_map_that_no_blur_explains_is_not_made_worse(truth: np.ndarray, wrong: str) -> None:
    """Corrections that lead nowhere end before they run away."""
    refined = {
        "mirrored": truth[::-1].copy(),
        "gain": 8 * truth,
        "noise": np.random.default_rng(0).standard_normal(truth.shape).astype(np.float32),
    }[wrong]
    coarse = blurred(truth)

    def left(values: np.ndarray) -> float:
        sigma = max(0.5, blur_between(torch.from_numpy(values)[None, None], coarse))
        return float((blurred(values, sigma) - coarse).square().sum())

    before, changed = left(refined), refined.copy()
    corrected(changed, coarse, 12)
    assert left(changed) <= 1.05 * before
    assert np.abs(changed).max() < 4 * max(np.abs(refined).max(), np.abs(truth).max())
