"""Photograph, coarse and refined depth in one picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from disk_arrays import on_disk
from PIL import Image

from prv2cli.choices import Kind
from prv2cli.depth_files.ours.preview import INVALID_COLOUR, colourise
from prv2cli.depth_files.ours.recognise import is_by_prv2
from prv2cli.errors import OutputError, UsageError
from prv2cli.jobs.comparison import GAP, PANEL, comparison_format, panel_size, write_comparison
from prv2cli.refine.fuse import Depth

ROWS, COLUMNS = 60, 80


def photograph(rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(0, 255, columns), np.linspace(0, 255, rows))
    return np.stack([x, y, 255 - x], axis=2).astype(np.uint8)


def result(
    depth: np.ndarray, coarse: np.ndarray, kind: Kind = "depth", seen: np.ndarray | None = None
) -> Depth:
    return Depth(depth, coarse, "one", 0.0, 1, 1, "cpu", "float32", kind=kind, seen=seen)


def ramp(rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    return np.repeat((1 / np.linspace(1, 0.1, columns, dtype=np.float32))[None], rows, axis=0)


def panels(path: Path) -> list[np.ndarray]:
    """The three, as int; what lies between them is white."""
    with Image.open(path) as image:
        picture = np.asarray(image.convert("RGB")).astype(int)
    width = (picture.shape[1] - 2 * GAP) // 3
    found = [picture[:, k * (width + GAP) :][:, :width] for k in range(3)]
    assert np.all(picture[:, width : width + GAP] == 255)
    assert np.all(picture[:, 2 * width + GAP :][:, :GAP] == 255)
    return found


def test_three_panels_with_the_colours_of_the_refined_depth(tmp_path: Path) -> None:
    coarse = ramp()[::4, ::4] * 1.5  # seems farther: colours of its own would hide that
    write_comparison(tmp_path / "a.png", photograph(), result(ramp(), coarse))
    photo, second, third = panels(tmp_path / "a.png")
    assert np.array_equal(photo, photograph())
    assert np.array_equal(third, colourise(ramp()))
    assert second.shape == third.shape
    assert (second.sum(axis=2) <= third.sum(axis=2))[:, 8:-8].all()
    assert second.sum() < 0.9 * third.sum()
    assert is_by_prv2(tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_the_same_map_twice_looks_the_same_in_either_kind(tmp_path: Path) -> None:
    for kind, values in {"depth": ramp(), "inverse": 1 / ramp() - 0.3}.items():  # below 0 is far, not missing
        write_comparison(tmp_path / "a.png", photograph(), result(values, values, kind))  # type: ignore[arg-type]
        _, second, third = panels(tmp_path / "a.png")
        assert np.array_equal(second, third)
        assert not (third == INVALID_COLOUR).all(axis=2).any()


def test_what_has_no_depth_is_grey(tmp_path: Path) -> None:
    depth, coarse = ramp(), ramp()[::4, ::4]
    depth[:20, :40] = np.nan
    seen = np.ones(coarse.shape, bool)
    seen[:5, :10] = False
    write_comparison(tmp_path / "a.png", photograph(), result(depth, coarse, seen=seen))
    for panel in panels(tmp_path / "a.png")[1:]:
        grey = (panel == INVALID_COLOUR).all(axis=2)
        assert grey[:20, :40].all()
        assert grey.sum() == 20 * 40


def test_large_photographs_become_small_pictures_from_memory_and_from_disk(tmp_path: Path) -> None:
    rows, columns = 1501, 3001
    rgb, depth = photograph(rows, columns), ramp(rows, columns)
    depth[::50] = np.nan
    coarse = ramp(150, 300)
    write_comparison(tmp_path / "memory.png", rgb, result(depth, coarse))
    on = on_disk(depth, tmp_path)
    write_comparison(tmp_path / "disk.png", on_disk(rgb, tmp_path), result(on, coarse))  # type: ignore[arg-type]
    with Image.open(tmp_path / "memory.png") as one, Image.open(tmp_path / "disk.png") as other:
        assert one.size == (1800, 296)
        assert np.array_equal(np.asarray(one), np.asarray(other))
    deep = np.full((ROWS, COLUMNS, 3), 65535, np.uint16)
    deep[:, :9] = 128 * 257
    write_comparison(tmp_path / "deep.png", deep, result(ramp(), ramp()))
    photo = panels(tmp_path / "deep.png")[0]
    assert (photo[0, 0, 0], photo[0, -1, 0]) == (128, 255)


def test_a_coarse_map_larger_than_the_panel_is_reduced(tmp_path: Path) -> None:
    write_comparison(tmp_path / "a.png", photograph(), result(ramp(), ramp(8 * ROWS, 8 * COLUMNS)))
    _, second, third = panels(tmp_path / "a.png")
    assert np.abs(second - third)[:, 2:-2].max() < 30


@pytest.mark.parametrize(
    ("size", "panel"),
    [((400, 600), (395, 592)), ((90, 120), (90, 120)), ((6000, 3000), (1184, 592)), ((1, 20000), (1, 592)),
     ((20000, 1), (1200, 1))],
)  # fmt: skip
def test_sizes(size: tuple[int, int], panel: tuple[int, int]) -> None:
    assert panel_size(*size) == panel
    assert 3 * PANEL[1] + 2 * GAP == 1800


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--compare a\.tif: a comparison is a picture; use \.png"):
        comparison_format(Path("a.tif"))
    with pytest.raises(OutputError, match="mkdir -p"):
        write_comparison(tmp_path / "none" / "a.png", photograph(), result(ramp(), ramp()))


def test_the_coarse_map_stays_as_it_is(tmp_path: Path) -> None:
    """Its holes are grey in the picture alone."""
    coarse = ramp()
    seen = np.ones(coarse.shape, bool)
    seen[:20] = False
    write_comparison(tmp_path / "a.png", photograph(), result(ramp(), coarse, seen=seen))
    assert not np.isnan(coarse).any()
    assert np.all(panels(tmp_path / "a.png")[1][:18] == INVALID_COLOUR)
