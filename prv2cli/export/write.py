"""Writing exports: each file whole or not at all, and all that are asked for or none.

View, targets ─ export ─> files, and what there is to say of each
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from prv2cli.errors import UsageError
from prv2cli.export.layers import write_layers, write_normals_exr
from prv2cli.export.mesh import MAX_EDGE, MAX_FACES, Mesh, make_mesh, write_glb, write_obj
from prv2cli.export.pictures import PERCENTILES, write_normals_png, write_picture
from prv2cli.export.points import MAX_POINTS, write_points
from prv2cli.export.targets import Target
from prv2cli.export.view import View, check_view
from prv2cli.files.atomic import atomic_write, check_output


@dataclass(frozen=True)
class Options:
    """How things are exported.

    Attributes:
        max_points, max_faces: of a .ply and of a mesh, 0 = no limit; above, every n-th pixel in each direction counts.
        max_edge: how many times farther than the nearest the farthest corner of a triangle may be.
        percentiles: of inverse depth, that become black and white.
        directx: normals with y down. radius: of the windows that normals are fitted in; None = normals.usual_radius.
    """

    max_points: int = MAX_POINTS
    max_faces: int = MAX_FACES
    max_edge: float = MAX_EDGE
    percentiles: tuple[float, float] = PERCENTILES
    directx: bool = False
    radius: int | None = None

    def check(self) -> None:
        """Raises UsageError."""
        if not 1 < self.max_edge < float("inf"):
            raise UsageError(f"--max-edge {self.max_edge:g}: a ratio of depths above 1, such as 1.05")
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise UsageError(f"--percentiles {low:g},{high:g}: two numbers from 0 to 100, the smaller first")


def export(
    view: View,
    targets: Iterable[Target],
    options: Options | None = None,
    on_target: Callable[[], None] = lambda: None,
) -> list[dict[str, Any]]:
    """Write all targets, or none; what `--json` prints of each. `on_target` comes before each: what it raises ends it.

    Raises UsageError, InputError: for a view that cannot be exported so; OutputError for a place.
    """
    targets, options = list(targets), options or Options()
    options.check()
    check_view(view, targets)
    made: list[Mesh] = []
    written = []
    with ExitStack() as pending:
        for target in targets:
            on_target()
            written.append(_written(view, target, options, pending, made))
    return written


def _written(
    view: View, target: Target, options: Options, pending: ExitStack, made: list[Mesh]
) -> dict[str, Any]:
    file = _opened(target.path, pending)
    found: dict[str, Any] = {"output": str(target.path), "kind": target.kind}
    shade: Any = {"radius": options.radius, "directx": options.directx}
    if target.kind == "points":
        found |= write_points(file, view, options.max_points)._asdict()
    elif target.kind == "mesh":
        if not made:  # one for a .glb and an .obj
            made.append(_mesh_of(view, options))
        found |= {**made[0].report._asdict(), **_mesh(file, target, made[0], pending)}
    elif target.kind == "layers":
        found["channels"] = write_layers(file, view, **shade)
    elif target.kind == "picture":
        write_picture(file, view, options.percentiles)
    elif target.suffix == ".exr":
        write_normals_exr(file, view, **shade)
    else:
        write_normals_png(file, view, **shade)
    file.flush()  # a full disk is found here, not when the file is to take its place
    return found


def _mesh_of(view: View, options: Options) -> Mesh:
    return make_mesh(view, max_faces=options.max_faces, max_edge=options.max_edge, radius=options.radius)


def _mesh(file: BinaryIO, target: Target, made: Mesh, pending: ExitStack) -> dict[str, Any]:
    if target.suffix == ".glb":
        write_glb(file, made)
        return {}
    companions = target.companions if made.texture is not None else ()
    write_obj(file, made, tuple((path.name, _opened(path, pending)) for path in companions))
    return {"companions": [str(path) for path in companions]}


def _opened(path: Path, pending: ExitStack) -> BinaryIO:
    check_output(path)
    return pending.enter_context(atomic_write(path))
