"""What `prv2 refine` and `prv2 batch` have in common: one group of options, and what becomes of them.

@takes_shared
def command(..., shared: Shared): ...      the options of the group stand on its command line in place of `shared`
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from prv2cli.choices import EMBEDDED, Kind
from prv2cli.cli.options import (
    COARSE,
    SPEED,
    CoarseOption,
    DepthScaleOption,
    DtypeOption,
    InverseOption,
    MaxPixelsOption,
    ModelOption,
    ModeOption,
    OfflineOption,
    OverlapOption,
    RevisionOption,
    SceneOption,
    SeedOption,
    TileOption,
    TtaOption,
    models_of,
    tiling_of,
)
from prv2cli.cli.ui import DeviceOption, JsonOption, PrecisionOption, QuietOption, VerboseOption

if TYPE_CHECKING:
    from prv2cli.depth_files.ours.encoding import Encoding
    from prv2cli.jobs.given import GivenMaps
    from prv2cli.refine.request import Models, RefineRequest

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Shared:
    """The options, as typed."""

    dtype: DtypeOption = None
    depth_scale: DepthScaleOption = 256.0
    inverse: InverseOption = False
    model: ModelOption = "auto"
    revision: RevisionOption = None
    offline: OfflineOption = False
    coarse: CoarseOption = "auto"
    scene: SceneOption = None
    focal_px: Annotated[
        float | None,
        typer.Option(
            min=1,
            help="Focal length of the photograph in pixels, instead of what EXIF says.",
            rich_help_panel=COARSE,
        ),
    ] = None
    coarse_scale: Annotated[
        float | None,
        typer.Option(
            help="A given map's stored numbers per metre, where its file does not say so.",
            rich_help_panel=COARSE,
        ),
    ] = None
    coarse_relative: Annotated[
        bool,
        typer.Option(
            "--coarse-relative",
            help="It has no physical unit; the output will say so.",
            rich_help_panel=COARSE,
        ),
    ] = False
    coarse_kind: Annotated[
        Kind | None,
        typer.Option(help="Whether it holds depth or inverse depth (disparity).", rich_help_panel=COARSE),
    ] = None
    coarse_invalid: Annotated[
        str | None,
        typer.Option(
            help="Which of its numbers means no value: a number, zero or none. Default: 0 and below in a map of "
            "metres; in a relative one none, where 0 is as far (inverse) or as near (depth) as can be. Numbers that "
            "are known to stand for nothing, such as 1e10, have no value either but with none.",
            metavar="VALUE|zero|none",
            rich_help_panel=COARSE,
        ),
    ] = None
    coarse_stretch: Annotated[
        bool,
        typer.Option(
            "--coarse-stretch",
            help="It covers the whole photograph, although its aspect is another (networks with a fixed input).",
            rich_help_panel=COARSE,
        ),
    ] = False
    keep_holes: Annotated[
        bool,
        typer.Option(
            "--keep-holes",
            help="Where it has no depth the result has none either. Default: filled from around, and counted.",
            rich_help_panel=COARSE,
        ),
    ] = False
    tile: TileOption = "0"
    overlap: OverlapOption = None
    batch_size: Annotated[
        int,
        typer.Option(
            min=0,
            help="Tiles at a time, in a batch of several photographs where they are small; 0 = from the free memory.",
            rich_help_panel=SPEED,
        ),
    ] = 0
    mode: ModeOption = None
    seed: SeedOption = 0
    tta: TtaOption = "auto"
    device: DeviceOption = "auto"
    precision: PrecisionOption = "auto"
    max_pixels: MaxPixelsOption = None
    json: JsonOption = False
    quiet: QuietOption = False
    verbose: VerboseOption = False

    @property
    def most_pixels(self) -> int:
        """Photographs of more are refused."""
        from prv2cli.photo.opening import MAX_PIXELS_DEFAULT

        return self.max_pixels or MAX_PIXELS_DEFAULT

    def encoding(self, format: str) -> Encoding:
        """How depth maps are stored in a format."""
        from prv2cli.depth_files.ours.encoding import Encoding

        return Encoding(format, self.dtype, self.depth_scale, self.inverse)

    def request(self, *, confidence: bool) -> RefineRequest:
        """What is done with each photograph. Raises UsageError."""
        from prv2cli.refine.request import RefineRequest

        tiling = tiling_of(self.tile, self.overlap, self.mode, self.seed)
        return RefineRequest(tiling, self.batch_size, self.tta, confidence, self.focal_px)

    def models(self, coarse_depth: Path | None) -> Models:
        """Which networks do it. Raises UsageError."""
        return models_of(
            self.model,
            self.coarse,
            coarse_depth,
            self.device,
            self.precision,
            scene=self.scene,
            revision=self.revision,
            offline=self.offline,
        )

    def given(self, coarse_depth: Path | None) -> GivenMaps | None:
        """How the maps of --coarse-depth are read; None without it. Raises UsageError for flags that do not fit."""
        from prv2cli.depth_files.given_map import parse_invalid
        from prv2cli.depth_files.ours.metadata import check_scale
        from prv2cli.errors import UsageError
        from prv2cli.jobs.given import GivenMaps

        if coarse_depth is None:
            for flag, given in self._of_maps().items():
                if given:
                    raise UsageError(f"{flag} describes a depth map; give it with --coarse-depth FILE")
            return None
        if self.coarse_scale is not None:
            check_scale("--coarse-scale", self.coarse_scale)
        if self.coarse_relative and self.coarse_scale is not None:
            raise UsageError("--coarse-scale and --coarse-relative exclude each other")
        if self.keep_holes and self.coarse.startswith("hf:"):
            raise UsageError(
                f"--keep-holes with --coarse {self.coarse}: a network that takes the map as its prompt knows depth "
                "everywhere; leave one of the two out"
            )
        return GivenMaps(
            self.coarse_scale,
            self.coarse_kind,
            self.coarse_relative,
            parse_invalid(self.coarse_invalid),
            self.coarse_stretch,
            self.keep_holes,
            str(coarse_depth) == EMBEDDED,
        )

    def _of_maps(self) -> dict[str, bool]:
        return {
            "--coarse-scale": self.coarse_scale is not None,
            "--coarse-relative": self.coarse_relative,
            "--coarse-kind": self.coarse_kind is not None,
            "--coarse-invalid": self.coarse_invalid is not None,
            "--coarse-stretch": self.coarse_stretch,
            "--keep-holes": self.keep_holes,
        }


def takes_shared(command: Callable[..., Result]) -> Callable[..., Result]:
    """The command with the options of Shared, one by one, in place of its parameter `shared`."""
    hints = get_type_hints(command, include_extras=True)
    options = get_type_hints(Shared, include_extras=True)
    names = [field.name for field in fields(Shared)]
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name != "shared":
            parameters.append(
                parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[parameter.name])
            )
            continue
        parameters += [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=options[field.name],
            )
            for field in fields(Shared)
        ]

    def run(**given: Any) -> Result:
        shared = Shared(**{name: given.pop(name) for name in names})
        return command(**given, shared=shared)

    run.__name__, run.__doc__, run.__module__ = command.__name__, command.__doc__, command.__module__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
