"""The weighted median: edges go where the photograph has them, and slopes, levels and hairs stay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from prv2cli.errors import ConfigError
from prv2cli.model.config import parse_model_config
from prv2cli.refine.refiner import Refiner
from prv2cli.restoration.edges.weighted_median import (
    COLOUR,
    COLOUR_BESIDE,
    SPACINGS,
    spacings_for,
    weighted_median,
)

HEIGHT, WIDTH, EDGE = 40, 60, 30
NEAR, FAR = -0.3, 0.2


def surfaces(edge: int = EDGE) -> np.ndarray:
    """(H, W): a near surface to the left of column `edge`, a far one from there on."""
    return np.tile(np.where(np.arange(WIDTH) < edge, NEAR, FAR).astype(np.float32), (HEIGHT, 1))


def photograph(left: int = 60, right: int = 160, edge: int = EDGE, noise: int = 4) -> np.ndarray:
    """(H, W, 3) uint8: two greys with a little noise."""
    grey = np.tile(np.where(np.arange(WIDTH) < edge, left, right), (HEIGHT, 1))[..., None]
    return (grey + np.random.default_rng(0).integers(-noise, noise + 1, (HEIGHT, WIDTH, 3))).astype(np.uint8)


def filtered(
    values: np.ndarray, pixels: np.ndarray, spacings: tuple[int, ...] = SPACINGS, spread: float = 1.0
) -> np.ndarray:
    changed = values.copy()
    weighted_median(changed, pixels, spread, spacings)
    return changed


def by_hand(values: np.ndarray, pixels: np.ndarray, row: int, column: int, spacing: int) -> float:
    """The median of one pixel, one neighbour after the other."""
    around, colour = [], COLOUR if spacing > 1 else COLOUR_BESIDE
    for down in range(-2, 3):
        for right in range(-2, 3):
            y = min(max(row + down * spacing, 0), values.shape[0] - 1)
            x = min(max(column + right * spacing, 0), values.shape[1] - 1)
            apart = pixels[y, x].astype(float) - pixels[row, column].astype(float)
            weight = round(255 * float(np.exp(-(apart**2).sum() / (2 * colour**2))))
            around.append((float(values[y, x]), weight))
    half, total = sum(weight for _, weight in around) / 2, 0
    for value, weight in sorted(around):
        total += weight
        if total >= half:
            return value
    raise AssertionError("half of the whole is never reached")


@pytest.mark.parametrize("spacing", [1, 2, 3])
def test_it_is_the_median_of_the_neighbours_by_their_colours(spacing: int) -> None:
    rng = np.random.default_rng(spacing)
    values = rng.normal(size=(12, 14)).astype(np.float32)  # steps everywhere
    pixels = rng.integers(0, 70, (12, 14, 3)).astype(np.uint8)
    found = filtered(values, pixels, (spacing,))
    expected = [[by_hand(values, pixels, y, x, spacing) for x in range(14)] for y in range(12)]
    assert found == pytest.approx(np.array(expected))


@pytest.mark.parametrize(
    ("off", "spacings"), [(-2, SPACINGS), (-1, SPACINGS), (2, SPACINGS), (3, (3, 2, 1)), (-4, (4, 2, 1))]
)
@pytest.mark.parametrize("turned", [False, True])
def test_an_edge_goes_where_the_photograph_has_it(off: int, spacings: tuple[int, ...], turned: bool) -> None:
    values, pixels = surfaces(EDGE + off), photograph()
    if turned:
        values, pixels = values.T.copy(), pixels.swapaxes(0, 1).copy()
    found = filtered(values, pixels, spacings)
    assert np.array_equal(found.T if turned else found, surfaces())


def test_an_outline_is_not_serrated_by_the_grid_of_neighbours() -> None:
    """Behind a noisy photograph: pixels side by side look at different halves of a loose grid, and disagree."""
    values, truth = surfaces(EDGE + 2), surfaces()
    wrong = {SPACINGS: 0, SPACINGS[:-1]: 0}
    for seed in range(10):
        noise = np.random.default_rng(seed).normal(0, 16, (HEIGHT, WIDTH, 3))
        pixels = (photograph(100, 140, noise=0) + noise).clip(0, 255).astype(np.uint8)
        for spacings in wrong:
            wrong[spacings] += int((filtered(values, pixels, spacings) != truth).sum())
    assert wrong[SPACINGS] < 0.8 * wrong[SPACINGS[:-1]]


def test_without_an_edge_in_the_photograph_it_stays() -> None:
    assert np.array_equal(filtered(surfaces(), photograph(100, 100)), surfaces())


def test_a_hair_of_its_own_colour_stays() -> None:
    values, pixels = np.full((HEIGHT, WIDTH), FAR, np.float32), photograph(150, 150)
    values[:, EDGE] = NEAR
    pixels[:, EDGE] = 20
    assert np.array_equal(filtered(values, pixels), values)


def test_a_crumb_of_the_colour_around_it_goes() -> None:
    values = np.full((HEIGHT, WIDTH), FAR, np.float32)
    values[10:12, 20:23] = NEAR
    assert np.array_equal(filtered(values, photograph(100, 100)), np.full_like(values, FAR))


def test_slopes_and_relief_stay_whatever_the_texture() -> None:
    rows = np.arange(HEIGHT, dtype=np.float32)[:, None]
    slope = 0.003 * np.tile(rows, (1, WIDTH))
    relief = slope + 0.0003 * np.random.default_rng(0).normal(size=slope.shape).astype(np.float32)
    texture = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    assert np.array_equal(filtered(relief, texture), relief)


def test_no_depth_is_made_up() -> None:
    values = np.random.default_rng(0).normal(size=(30, 40)).astype(np.float32)
    texture = np.random.default_rng(1).integers(0, 256, (30, 40, 3), np.uint8)
    found = filtered(values, texture)
    assert not np.array_equal(found, values)
    # Between the value that was there and the median, where a step is hardly one; else one of them.
    assert np.isin(found, values).mean() > 0.99
    assert values.min() <= found.min() <= found.max() <= values.max()


def test_units_do_not_matter() -> None:
    values = np.random.default_rng(3).normal(0, 0.01, (HEIGHT, WIDTH)).astype(np.float32)
    found = filtered(values, photograph())
    assert filtered(values / 4, photograph(), spread=4.0) * 4 == pytest.approx(found, abs=1e-6)
    hardly_steps = filtered(values, photograph(), spread=0.01)
    assert np.array_equal(hardly_steps, values)


def test_mirrored_and_turned_it_is_the_same() -> None:
    values = np.random.default_rng(4).normal(0, 0.006, (30, 40)).astype(np.float32)
    pixels = np.random.default_rng(5).integers(0, 60, (30, 40, 3), np.uint8)
    found = filtered(values, pixels)
    for change in (np.fliplr, np.flipud, lambda map_: np.swapaxes(map_, 0, 1)):
        assert np.array_equal(filtered(change(values).copy(), change(pixels).copy()), change(found))


def test_a_photograph_of_16_bits_is_the_same() -> None:
    pixels = photograph()
    wide = pixels.astype(np.uint16) * 257
    values = surfaces(EDGE + 2)
    assert np.array_equal(filtered(values, wide), filtered(values, pixels))


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (3, 2)])
def test_a_map_of_a_few_pixels(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    found = filtered(values, np.zeros((*shape, 3), np.uint8))
    assert np.isfinite(found).all()
    assert found.min() >= values.min()


def test_behind_a_wider_blur_it_looks_farther() -> None:
    assert [spacings_for(blur) for blur in (0.0, 2.0, 9.0, 18.0, 100.0)] == [
        (2, 2, 1),
        (2, 2, 1),
        (3, 2, 1),
        (4, 2, 1),
        (4, 2, 1),
    ]


def test_the_shipped_refiner_uses_it(refiner: Refiner) -> None:
    """Pixels just beside an edge of the photograph are on its surface more often."""
    assert refiner.config.weighted_median
    rng = np.random.default_rng(5)
    rows, columns = np.mgrid[:192, :256]
    disc = (rows - 96) ** 2 + (columns - 128) ** 2 < 50**2
    pixels = (np.where(disc, 70, 150)[..., None] + rng.normal(0, 12, (192, 256, 3))).clip(0, 255)
    truth = np.where(disc, 1.5, 3.0).astype(np.float32)
    coarse = np.roll(truth, 3, 1)[::4, ::4]
    config = refiner.config.model_copy(update={"weighted_median": False})
    without = Refiner(replace(refiner.checkpoint, config=config), None, device="cpu")
    wrong = []
    for one in (without, refiner):
        found = one.refine(pixels.astype(np.uint8), coarse_depth=coarse).depth
        wrong.append(float((np.abs(found / truth - 1) > 0.1).mean()))
    assert wrong[1] < 0.9 * wrong[0]


def test_metres_are_refused() -> None:
    raw = {
        "kind": "refiner",
        "depth_space": "metres",
        "weighted_median": True,
        "coarse": {"channels": [8] * 6},
    }
    with pytest.raises(ConfigError, match="weighted_median works in depth_space: normalised-log only"):
        parse_model_config(raw, "x")
