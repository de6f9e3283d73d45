"""What `prv2 refine` tells of a run: lines about what was written, and with --dry-run what it would take."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from prv2cli.cli.streams import emit

if TYPE_CHECKING:
    from prv2cli.jobs.one_photo import FileJob
    from prv2cli.refine.request import GivenDepth, Models


def sentence(found: dict[str, Any], given: GivenDepth | None) -> str:
    """One line about a finished photograph; `given`: the map that was refined."""
    unit = {"metre": "m", "1/metre": "1/m"}.get(found["unit"], "(no unit)")
    width, height, masked = found["width"], found["height"], found["masked"]
    ends = "" if found["min"] is None else f"{found['min']:.2f} to {found['max']:.2f} {unit}, "
    sky = "" if given else "sky "
    holes = f"{masked / (width * height):.0%} {sky}without depth, " if masked else ""
    if found["filled"]:
        holes += f"{found['filled'] / (width * height):.0%} filled, "
    return (
        f"{found['output']}: {width}x{height}, {ends}{holes}"
        f"{found['tiles']} tile(s), {found['seconds']['total']:.1f} s"
    )


def tell_estimate(job: FileJob, models: Models, *, as_json: bool) -> None:
    """--dry-run: what the run would take, on stdout."""
    from prv2cli.coarse.aspect import check_aspect
    from prv2cli.jobs.exports import memory_with
    from prv2cli.photo.header import read_header
    from prv2cli.refine.estimate import dry_run
    from prv2cli.refine.refiner import Refiner

    header = read_header(job.source, max_pixels=job.max_pixels, name=job.name)
    if job.given is not None and not job.given.stretched:
        check_aspect(job.given.values.shape, (header.height, header.width))
    exporting = partial(memory_with, header=header, targets=job.outputs.exports)
    refiner = Refiner.load(models)
    found = dry_run(refiner, header, job.request, map_pixels=job.map_pixels, exporting=exporting)
    facts = {
        "input": job.place,
        "width": header.width,
        "height": header.height,
        "tiles": found.tiles,
        "tiling": found.tiling,
        "way": found.way,
        "memory_bytes": found.host_bytes,
        "disk_bytes": found.memory.disk if found.way == "bands" else 0,
        "seconds": None if found.seconds is None else round(found.seconds, 3),
    }
    if as_json:
        emit(json.dumps(facts, allow_nan=False))
        return
    took = "an unknown time" if found.seconds is None else f"about {found.seconds:.0f} s"
    emit(
        f"{header.name}: {header.width}x{header.height}, {found.tiles} tiles ({found.tiling}), "
        f"{found.host_bytes / 1e9:.1f} GB of memory, {took}"
    )


def export_sentence(written: dict[str, Any]) -> str:
    """One line about an export."""
    start = f"{written['output']}: "
    if written["kind"] == "points":
        return f"{start}{written['points']:,} points{_thinned(written['step'], '--max-points')}"
    if written["kind"] == "mesh":
        cut = f", {written['cut']:,} cut across depth edges" if written["cut"] else ""
        counts = f"{written['vertices']:,} corners, {written['faces']:,} triangles"
        return f"{start}{counts}{_thinned(written['step'], '--max-faces')}{cut}"
    if written["kind"] == "layers":
        return f"{start}{' '.join(written['channels'])}"
    return f"{start}{written['kind']}"


def _thinned(step: int, flag: str) -> str:
    """What to say where pixels were left out."""
    if step == 1:
        return ""
    nth = {2: "2nd", 3: "3rd"}.get(step, f"{step}th")
    return f" (every {nth} pixel in each direction; {flag} 0 takes all)"
