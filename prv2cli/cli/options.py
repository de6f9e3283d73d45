"""The options that refining one photograph and many have in common, and their checks before torch is imported."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prv2cli.choices import Dtype, Scene, Tta

if TYPE_CHECKING:
    from prv2cli.refine.request import Models, Tiling

COARSE = "Coarse depth"
OUTPUT = "Output"
SPEED = "Speed and memory"


DtypeOption = Annotated[
    Dtype | None, typer.Option("--dtype", help="Of a TIFF. Default uint16.", rich_help_panel=OUTPUT)
]
DepthScaleOption = Annotated[
    float,
    typer.Option(
        "--depth-scale",
        help="Units per metre of 16-bit files: 256 KITTI, 1000 millimetres, 5000 TUM.",
        rich_help_panel=OUTPUT,
    ),
]
InverseOption = Annotated[
    bool, typer.Option("--inverse", help="Write inverse depth (1/m).", rich_help_panel=OUTPUT)
]
ExportOption = Annotated[
    list[str] | None,
    typer.Option(
        "--export",
        metavar="FILE",
        help="Also export: .ply (points), .glb or .obj (mesh), .exr (layers), normals:FILE.png or .exr, "
        "picture:FILE.png; in a batch {stem}.glb and so on, beside each depth map. See prv2 export. May be repeated.",
        rich_help_panel=OUTPUT,
    ),
]
ModelOption = Annotated[
    str,
    typer.Option(
        "-m",
        "--model",
        help="The refiner: a name of `prv2 models list`, a Hub repository org/name, a file, or auto.",
    ),
]
RevisionOption = Annotated[
    str | None,
    typer.Option("--revision", help="Of the model's Hub repository: a commit, branch or tag."),
]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Never ask the Hub; use what is cached.")]
CoarseOption = Annotated[
    str,
    typer.Option(
        "--coarse",
        help="The coarse network: a name of `prv2 models list`, org/name, a file, hf:org/name for any depth model "
        "of transformers, or auto: the best that is cached or can be downloaded, else the embedded one.",
        rich_help_panel=COARSE,
    ),
]
SceneOption = Annotated[
    Scene | None,
    typer.Option(
        "--scene",
        help="Let auto take the Depth Anything V2 for such scenes; also the range (20 or 80 m) of a file that does "
        "not say it.",
        rich_help_panel=COARSE,
    ),
]
TileOption = Annotated[
    str,
    typer.Option("--tile", metavar="H[xW]", help="Tile size in pixels; 0 = chosen.", rich_help_panel=SPEED),
]
OverlapOption = Annotated[
    float | None,
    typer.Option(
        "--overlap",
        min=0,
        max=0.5,
        help="Share of a tile that neighbours have in common.",
        rich_help_panel=SPEED,
    ),
]
ModeOption = Annotated[
    str | None,
    typer.Option(
        "--mode",
        help="The paper's tilings: m1, m2 or rN. Default: one feathered grid.",
        rich_help_panel=SPEED,
    ),
]
SeedOption = Annotated[
    int, typer.Option("--seed", min=0, help="Of the random tiles of rN.", rich_help_panel=SPEED)
]
TtaOption = Annotated[
    Tta,
    typer.Option(
        "--tta",
        help="flip: refine the mirrored photograph too and take the mean, in twice the time. auto: only with "
        "--confidence.",
        rich_help_panel=SPEED,
    ),
]
MaxPixelsOption = Annotated[
    int | None,
    typer.Option(
        "--max-pixels",
        min=1,
        help="Refuse larger photographs. Default 700 million.",
        rich_help_panel=SPEED,
    ),
]


def tiling_of(tile: str, overlap: float | None, mode: str | None, seed: int) -> Tiling:
    """How photographs are cut, from the flags. Raises UsageError."""
    from prv2cli.errors import UsageError
    from prv2cli.refine.request import Tiling

    found = Tiling(_parse_tile(tile), overlap, mode, seed)
    if mode is not None and (overlap is not None or any(found.tile)):
        raise UsageError("--mode has tiles of its own; leave out --tile and --overlap")
    return found


def _parse_tile(text: str) -> tuple[int, int]:
    from prv2cli.errors import UsageError

    rows, _, columns = text.lower().partition("x")
    try:
        return int(rows), int(columns or rows)
    except ValueError as error:
        raise UsageError(f"--tile {text}: write rows or rows x columns, e.g. 512 or 512x768") from error


def models_of(
    model: str,
    coarse: str,
    coarse_depth: Path | None,
    device: str,
    precision: str,
    *,
    scene: Scene | None = None,
    revision: str | None = None,
    offline: bool = False,
) -> Models:
    """Which models, from the flags; raises UsageError.

    Where a map is given there is no coarse network, but for one of transformers that is named: it gets the map as its
    prompt.
    """
    from prv2cli.errors import UsageError
    from prv2cli.hub.resolve import check, entry_of
    from prv2cli.machine.devices import check_names
    from prv2cli.refine.request import Models

    prompted = coarse_depth is not None and coarse.startswith("hf:")
    if coarse_depth is not None and coarse != "auto" and not prompted:
        raise UsageError(
            "--coarse and --coarse-depth exclude each other: a network, or a map of your own; both together are for "
            "--coarse hf:org/name of a network that takes the map as its prompt"
        )
    if scene is not None and (coarse_depth is not None or (coarse != "auto" and entry_of(coarse))):
        raise UsageError(
            "--scene is for --coarse auto, and for a Depth Anything V2 file that does not say its range; leave it out"
        )
    check_names(device, precision)
    for wanted in (model, coarse):
        if wanted != "auto":
            check(wanted)
    return Models(
        model,
        coarse if coarse_depth is None or prompted else None,
        scene=scene,
        revision=revision,
        offline=offline,
        device=device,
        precision=precision,
        prompted=prompted,
    )
