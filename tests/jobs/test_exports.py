"""What exports add to the memory that a photograph takes, and where they cannot be had in bands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from views import colours

from prv2cli.depth_files.ours.encoding import Encoding
from prv2cli.errors import UsageError
from prv2cli.export.targets import parse_target
from prv2cli.jobs.exports import memory_with
from prv2cli.jobs.one_photo import FileJob, Outputs, needs_of
from prv2cli.photo.header import Header
from prv2cli.refine.estimate import Memory

LARGE = Header("large.jpg", "JPEG", 30_000, 20_000, False, 0, 0)
MEMORY = Memory(in_memory=10_000_000_000, in_bands=1_000_000_000, disk=5, photograph=7_000_000_000)


def test_exports_are_counted_where_they_take_more_than_the_tiles() -> None:
    assert memory_with(MEMORY, LARGE, ()) == MEMORY
    layers = memory_with(MEMORY, LARGE, (parse_target("a.glb"), parse_target("a.exr")))
    assert layers.in_memory > 600e6 * (3 + 4 + 18), (
        "photograph, depth and what an .exr took when it was measured"
    )
    assert layers.photograph > 600e6 * (3 + 4 + 18)
    text = memory_with(MEMORY, LARGE, (parse_target("a.obj"),))
    assert (text.in_memory, text.disk) == (MEMORY.in_memory, MEMORY.disk)
    assert text.in_bands > 2e9


def test_a_job_asks_for_the_memory_of_its_exports(tmp_path: Path) -> None:
    Image.fromarray(colours(40, 60)).save(tmp_path / "a.jpg")
    outputs = Outputs(tmp_path / "a.tif", Encoding("tiff"))
    job = FileJob(tmp_path / "a.jpg", outputs)
    plain, more = (
        needs_of(job),
        needs_of(replace(job, outputs=replace(outputs, exports=(parse_target("a.obj"),)))),
    )
    assert plain is not None
    assert more is not None
    assert more.memory.in_memory > plain.memory.in_memory


def test_layers_are_not_written_in_bands() -> None:
    outputs = Outputs(Path("a.tif"), Encoding("tiff"))
    replace(outputs, exports=(parse_target("a.glb"), parse_target("normals:n.png"))).check_on_disk()
    with pytest.raises(UsageError, match=r"--export a\.exr: an \.exr file is written from memory"):
        replace(outputs, exports=(parse_target("a.exr"),)).check_on_disk()
