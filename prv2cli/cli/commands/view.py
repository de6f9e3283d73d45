"""`prv2 view`: a photograph and its depth maps on one page for a browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prv2cli.choices import Kind
from prv2cli.cli.options import MaxPixelsOption
from prv2cli.cli.streams import binary_stdin, binary_stdout
from prv2cli.cli.ui import QuietOption, say

if TYPE_CHECKING:
    from prv2cli.view.material import DepthLayer, PhotoLayer

SUFFIXES = (".html", ".htm")
STREAM = Path("-")


def view(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="The photograph; - reads it from stdin.")],
    depths: Annotated[
        list[Path],
        typer.Argument(
            metavar="DEPTH",
            help="Its depth maps: PNG, TIFF, .npy, .npz, .exr or .pfm, 8-bit pictures too, of any size.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The page, .html; - for stdout. Default <photo>_view.html here."),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(help="Stored numbers per metre (1: metres) of those DEPTHs that do not say so."),
    ] = None,
    kind: Annotated[Kind | None, typer.Option(help="What those DEPTHs hold that do not say so.")] = None,
    relative: Annotated[
        bool, typer.Option("--relative", help="Those DEPTHs that do not say their unit have none.")
    ] = False,
    megapixels: Annotated[
        float,
        typer.Option(
            min=0.01, max=64, help="Larger photographs and maps are reduced to so many for the page."
        ),
    ] = 4.0,
    max_pixels: MaxPixelsOption = None,
    overwrite: Annotated[
        bool | None,
        typer.Option(
            "--overwrite/--no-overwrite", help="Replace an existing file.", show_default="only such a page"
        ),
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Make one page to look at: photograph and depth compared, values, profiles, points. No server, no network."""
    from prv2cli.depth_files.ours.write import opened_for_writing
    from prv2cli.errors import UsageError
    from prv2cli.photo.opening import MAX_PIXELS_DEFAULT, label_of, read_once
    from prv2cli.photo.read import read_photo
    from prv2cli.view.assemble import assemble
    from prv2cli.view.material import depth_layers, photo_layer

    if relative and scale is not None:
        raise UsageError("--scale and --relative exclude each other")
    target = output or Path(f"{'stdin' if photo == STREAM else photo.stem}_view.html")
    _check(target, photo, depths, overwrite)
    picture = read_photo(
        binary_stdin() if photo == STREAM else read_once(photo),
        max_pixels=max_pixels or MAX_PIXELS_DEFAULT,
        name="<stdin>" if photo == STREAM else label_of(photo),
    )
    pixels = round(megapixels * 1e6)
    shown = photo_layer(picture, pixels)
    del picture  # it may be large, and so may the depth maps
    sources: list[Any] = [binary_stdin() if depth == STREAM else depth for depth in depths]
    layers = depth_layers(sources, shown, pixels, scale=scale, kind=kind, relative=relative)
    page = assemble(shown, layers)
    with opened_for_writing(target if target != STREAM else binary_stdout()) as file:
        file.write(page)
    _tell(target, shown, layers, len(page), quiet)


def _check(target: Path, photo: Path, depths: list[Path], overwrite: bool | None) -> None:
    """Refuse, before anything is read, what cannot be read twice or written, or would replace what is not ours."""
    from prv2cli.cli.places import check_targets
    from prv2cli.errors import OutputError, UsageError
    from prv2cli.files.protected import identity
    from prv2cli.files.text import shown
    from prv2cli.view.assemble import is_page

    if [photo, *depths].count(STREAM) > 1:
        raise UsageError("stdin can be read once; give the other files by name")
    is_file = identity(target) is not None
    if target != STREAM and target.suffix.lower() not in SUFFIXES and (is_file or not target.exists()):
        raise UsageError(f"-o {shown(target)}: a page is an .html file; use {shown(target.stem)}.html")
    inputs: dict[str, Path | None] = {f"depth map {k}": path for k, path in enumerate(depths, 1)}
    check_targets({"-o": target}, {"the photograph itself": photo, **inputs}, overwrite)
    if overwrite is None and is_file and not is_page(target):
        raise OutputError(
            f"{shown(target)} is there and is no page by prv2; keep it with another name: -o NAME, or replace it with "
            "--overwrite"
        )


def _tell(target: Path, photo: PhotoLayer, layers: list[DepthLayer], size: int, quiet: bool) -> None:
    """What a person should know: what was reduced, what the readers noticed, where the page is."""
    from prv2cli.files.text import shown

    sizes = [(layer.name, layer.size, layer.shown) for layer in layers]
    for name, (height, width), (rows, columns) in [(photo.name, photo.size, photo.shown), *sizes]:
        if (rows, columns) != (height, width):
            say(
                f"{name}: {width}x{height} reduced to {columns}x{rows} for the page (--megapixels)",
                quiet=quiet,
            )
    for name, notes in ((photo.name, photo.notes), *((layer.name, layer.notes) for layer in layers)):
        for note in notes:
            say(f"{name}: {note}", quiet=quiet)
    where = "stdout" if target == STREAM else shown(target)
    maps = "a depth map" if len(layers) == 1 else f"{len(layers)} depth maps"
    say(f"{where}: {photo.name} with {maps}, {size / 1e6:.1f} MB; open it in a browser", quiet=quiet)
