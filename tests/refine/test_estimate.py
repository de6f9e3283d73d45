"""What a run will take, told before it: memory of both ways, the way that follows, tiles and time."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from prv2cli.errors import InputError
from prv2cli.machine.memory import resident_memory
from prv2cli.photo.header import Header, read_header
from prv2cli.photo.read import read_photo
from prv2cli.refine import estimate
from prv2cli.refine.refiner import Refiner
from prv2cli.refine.request import RefineRequest
from prv2cli.refine.tiles.plan import BYTES_PER_TILE_PIXEL, TILE_SIZES

TILING: dict[str, Any] = {"tile": 64, "overlap": 0.2}


def _giant(decoding: int = 2_400_000_000, bands: int = 200_000_000) -> Header:
    return Header("giant.tif", "TIFF", 30_000, 20_000, False, decoding, bands)


def test_600_megapixels_take_less_than_4_gb_in_bands() -> None:
    for bands in (200_000_000, 2_400_000_000):  # a TIFF in strips; a JPEG, which is decoded whole
        memory = estimate.memory_for(_giant(bands=bands), RefineRequest())
        assert memory.in_bands < 4e9 < memory.in_memory
        assert memory.disk < 6e9


def test_the_way_follows_from_the_free_memory() -> None:
    header = _giant()
    memory = estimate.memory_for(header, RefineRequest())
    assert estimate.choose_way(header, memory, 64 * 10**9) == "memory"
    assert estimate.choose_way(header, memory, 6 * 10**9) == "bands"
    with pytest.raises(InputError, match=r"giant\.tif: 30000 x 20000 needs \d+\.\d GB .* 1\.0 GB are free"):
        estimate.choose_way(header, memory, 10**9)
    small = Header("small.jpg", "JPEG", 400, 300, False, 480_000, 480_000)
    assert estimate.choose_way(small, estimate.memory_for(small, RefineRequest()), 4 * 10**9) == "memory"


def test_a_coarse_pass_that_takes_more_than_the_tiles() -> None:
    """It comes before them; on a GPU it takes none of the main memory."""
    small = Header("small.jpg", "JPEG", 400, 300, False, 480_000, 480_000)
    plain = estimate.memory_for(small, RefineRequest())
    large = estimate.memory_for(small, RefineRequest(), coarse_peak=3 * 10**9)
    assert large.in_memory == 3 * 10**9 + small.rgb_bytes > plain.in_memory
    assert large.in_bands == 3 * 10**9 > plain.in_bands
    assert large.photograph == plain.photograph
    on_gpu = estimate.memory_for(small, RefineRequest(), on_host=False, coarse_peak=3 * 10**9)
    assert on_gpu == estimate.memory_for(small, RefineRequest(), on_host=False)


def test_the_papers_tiles_are_as_large_as_they_are() -> None:
    """A sixteenth of the photograph each, and their weights are held too."""
    header, large = _giant(), Header("small.jpg", "JPEG", 8000, 6000, False, 10**6, 10**6)
    for one in (header, large):
        ours, papers = (
            estimate.memory_for(one, RefineRequest.of(mode=mode, confidence=True)) for mode in (None, "m1")
        )
        most = TILE_SIZES[0] ** 2
        tile = math.ceil(one.height / 4) * math.ceil(one.width / 4)
        more = BYTES_PER_TILE_PIXEL * (tile - most) + 4 * one.pixels
        assert papers.in_memory - ours.in_memory == pytest.approx(more, rel=0.01)


def test_a_given_map_counts_in_both_ways() -> None:
    """It may be as large as the photograph, and is not worked on in bands."""
    header, pixels = _giant(), 600 * 10**6
    plain = estimate.memory_for(header, RefineRequest())
    given = estimate.memory_for(header, RefineRequest(), map_pixels=pixels)
    assert given.in_memory - plain.in_memory == given.in_bands - plain.in_bands >= 16 * pixels
    assert given.photograph > plain.photograph


def test_a_coarse_pass_that_does_not_fit_is_refused_before_it_begins() -> None:
    """What the process holds already, weights and photograph, counts as had."""

    def check(device: str, peak: int, free: int) -> None:
        coarse = SimpleNamespace(name="moge2-vitl")
        refiner: Any = SimpleNamespace(device=torch.device(device), coarse_peak=peak, coarse=coarse)
        estimate.check_coarse_pass(refiner, free)

    held = resident_memory()
    assert held > 10**7
    with pytest.raises(
        InputError, match=r"moge2-vitl needs 90\.0 GB of memory, and 2\.0 GB are free.*--coarse"
    ):
        check("cpu", 90 * 10**9, 2 * 10**9)
    check("cuda", 90 * 10**9, 2 * 10**9)
    check("cpu", 0, 1)
    check("cpu", 90 * 10**9, 90 * 10**9 - held // 2)


def test_a_dry_run_tells_the_tiles_and_a_time(
    refiner: Refiner, photograph: np.ndarray, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = np.ascontiguousarray(np.rot90(photograph[60:221, 50:180]))
    Image.fromarray(turned).save(tmp_path / "turned.jpg", quality=92, exif=exif)
    header, request = read_header(tmp_path / "turned.jpg"), RefineRequest.of(**TILING)
    found = estimate.dry_run(refiner, header, request, available=10**11)
    whole = refiner.refine(read_photo(tmp_path / "turned.jpg").rgb, **TILING)
    assert (found.tiles, found.tiling, found.way) == (whole.tiles, whole.tiling, "memory")
    assert found.host_bytes == found.memory.in_memory
    took = whole.seconds["reduced"] + whole.seconds["tiles"]
    assert found.seconds is not None
    assert took / 5 < found.seconds < took * 5
    assert estimate.dry_run(refiner, header, request, timed=False, available=10**11).seconds is None
