"""Exports of one photograph's result, beside its depth: points, meshes, layers and the rest of prv2cli/export.

They come after the depth file, which is kept where they cannot be made: prv2 export makes them of it later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.depth_files.ours.preview import check_preview
from prv2cli.errors import InputError, UsageError
from prv2cli.export.camera import Focal
from prv2cli.export.targets import Target
from prv2cli.export.view import Fixes, View, camera_of, missing
from prv2cli.export.write import export
from prv2cli.files.text import shown

_PROGRAM, _RESULT = 700 << 20, 4  # bytes: torch and the models; a pixel of depth
# What an export takes at its largest (2 million triangles, 16 million points), and an .exr for each pixel.
_LARGEST = {".obj": 1800 << 20, ".glb": 500 << 20, ".ply": 300 << 20, ".exr": 250 << 20, ".png": 250 << 20}
_PER_PIXEL_OF_EXR = 20

if TYPE_CHECKING:
    from prv2cli.jobs.one_photo import FileJob
    from prv2cli.photo.header import Header
    from prv2cli.photo.read import Photo
    from prv2cli.refine.estimate import Memory
    from prv2cli.refine.fuse import Depth


def memory_with(memory: Memory, header: Header, targets: Iterable[Target]) -> Memory:
    """What a photograph will take with its exports, which come when the tiles are done and the result is held."""
    most = max((_bytes(target, header.pixels) for target in targets), default=0)
    if not most:
        return memory
    held = header.rgb_bytes + _RESULT * header.pixels
    return replace(
        memory,
        in_memory=max(memory.in_memory, _PROGRAM + held + most),
        in_bands=max(memory.in_bands, _PROGRAM + most),
        photograph=max(memory.photograph, held + most),
    )


def _bytes(target: Target, pixels: int) -> int:
    return _LARGEST[target.suffix] + (_PER_PIXEL_OF_EXR * pixels if target.suffix == ".exr" else 0)


def check_outputs(job: FileJob, photo: Photo) -> None:
    """Refuse before any work what cannot be written of this photograph, or be made of its given map.

    What a network gives is not known before. Raises OutputError, UsageError.
    """
    if job.outputs.preview is not None:
        check_preview(job.outputs.preview, *photo.rgb.shape[:2])
    if job.given is None:
        return
    focal = job.request.focal_px or photo.focal_px or (job.given.focal and job.given.focal[0])
    fixes = Fixes(
        "say how many of its numbers make a metre (--coarse-scale N), or make a picture (--export picture:FILE.png)",
        "give it in pixels (--focal-px N)",
    )
    problem = missing("the map of --coarse-depth", job.given.unit, focal, job.outputs.exports, fixes)
    if problem:
        raise UsageError(problem)


def write_exports(
    job: FileJob, photo: Photo, result: Depth, metadata: DepthMetadata, on_target: Callable[[], None]
) -> list[dict[str, Any]]:
    """Write what is asked for, all or nothing; what `--json` prints of each. `on_target`: see export.write.export.

    Raises InputError where the result has no metres or no focal length, and what export.write.export raises.
    """
    targets = job.outputs.exports
    if not targets:
        return []
    focal = None if result.focal_px is None else Focal(result.focal_px, result.focal_origin)
    problem = missing("the depth", result.unit, focal, targets, _fixes(job.outputs.depth, targets))
    if problem:
        raise InputError(problem)
    height, width = result.depth.shape
    view = View(
        photo.name,
        result.depth,
        metadata,
        camera_of(width, height, focal),
        rgb=photo.rgb,
        texture=photo.rgb,
        confidence=result.confidence,
    )
    return export(view, targets, on_target=on_target)


def _fixes(depth: object, targets: Iterable[Target]) -> Fixes:
    """What can be done with the depth file, which is there, about the target that lacks something."""
    file = shown(depth) if isinstance(depth, Path) else "DEPTH"
    command = f"the depth itself is written, and once it is known: prv2 export {file} PHOTO"
    lacking = (target for target in targets if target.needs_space)  # `missing` names the first of them
    output = next((f"{'--normals' if t.kind == 'normals' else '-o'} {shown(t.path)}" for t in lacking), "")
    return Fixes(
        f"{command} --scale N {output}, where N of its numbers make a metre",
        f"{command} --focal-px N {output}",
    )
