"""What a depth file says about itself: the JSON that travels inside every file that prv2 writes."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args

from prv2cli.choices import FocalOrigin, Kind
from prv2cli.errors import InputError, UsageError
from prv2cli.files.pictures.field_of_view import focal_of_view
from prv2cli.files.text import shown
from prv2cli.version import __version__

Content = Kind | Literal["confidence"]  # of a file
SOFTWARE = "prv2cli"
# unit of the values -> what they are
UNITS: dict[str, Content] = {
    "metre": "depth",
    "relative": "depth",
    "1/metre": "inverse",
    "1/relative": "inverse",
    "fraction": "confidence",  # 0..1, see disagreement.FORMULA
}
MAX_JSON = 1 << 20  # characters; ours have a few hundred
_MAX_DEPTH = 50
_SCALE_RANGE = (1e-9, 1e9)
_TEXT_KEYS = (
    "model",
    "model_id",
    "tiling",
    "tta",
    "precision",
    "coarse",
    "coarse_sha256",
    "source_sha256",
    "settings_sha256",
)


@dataclass(frozen=True)
class DepthMetadata:
    """How to read the numbers of a depth map or of its confidence, and where they came from.

    value in `unit` = stored number / `scale`; a stored number equal to `invalid` is no depth.
    """

    software: str = SOFTWARE
    version: str = __version__
    model: str | None = None
    model_id: str | None = None  # the revision or the sha256 of the model
    unit: str = "metre"  # a key of UNITS; "relative" has no physical unit
    kind: Content = "depth"
    scale: float = 1.0  # stored steps per unit in integer files, 1 in float files
    invalid: float = math.nan  # 0 in integer files, NaN in float files
    clipped: int = 0  # pixels that were too large for the integers
    focal_px: float | None = None  # the focal length that was used or found, in pixels of this map
    focal_origin: FocalOrigin | None = None  # None: not said
    fov_degrees: float | None = None  # the horizontal field of view
    masked: int = (
        0  # pixels without depth: no surface for the coarse network (the sky), or kept holes of a given map
    )
    filled: int = 0  # pixels with depth where a given map has none
    tiling: str | None = None
    tta: str | None = None  # "flip": the mean with the mirrored photograph's
    precision: str | None = None
    coarse: str | None = None  # the coarse model or map behind the refiner
    coarse_sha256: str | None = None  # of the map's file, where one was given
    source_sha256: str | None = None
    settings_sha256: str | None = None  # of all that decided the content, for a batch to know its own
    extra: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """One line of plain ASCII, as PNG text and TIFF tags want it. A NaN is written as "NaN"."""
        data = asdict(self)
        data["invalid"] = "NaN" if math.isnan(self.invalid) else self.invalid
        return json.dumps(data, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> DepthMetadata:
        """Read and check. Raises InputError (without a file name) for anything malformed or impossible.

        Keys of a later version land in `extra`.
        """
        data = _parse(text)
        problem = _problem(data)
        if problem:
            raise InputError(f"the prv2 metadata is wrong: {problem}")
        data["scale"] = float(data["scale"])
        data["invalid"] = float(data["invalid"])
        for key in {"version", *_TEXT_KEYS} & {key for key, value in data.items() if value is not None}:
            data[key] = shown(data[key])  # it is printed, and anyone can have written it
        known = {f.name for f in fields(cls)}
        later = {key: data.pop(key) for key in list(data) if key not in known}
        return cls(**{**data, "extra": {**later, **data.get("extra", {})}})

    @property
    def signed(self) -> bool:
        """Whether 0 and less are values, the farthest or the nearest: in floats that prv2 wrote without a unit."""
        return self.software == SOFTWARE and self.unit.endswith("relative") and math.isnan(self.invalid)

    def own_focal(self, width: int) -> float | None:
        """The focal length that the file states, in pixels of the map, which is `width` wide; None: it states none."""
        if self.focal_px is not None or self.fov_degrees is None or self.fov_degrees >= 180:
            return self.focal_px
        return focal_of_view(self.fov_degrees, width)

    def as_kind(self, kind: Kind) -> DepthMetadata:
        """The same map called `kind`, with the unit that belongs to it."""
        physical = self.unit.removeprefix("1/")
        return replace(self, kind=kind, unit=physical if kind == "depth" else f"1/{physical}")


def check_scale(flag: str, number: float) -> None:
    """Raises UsageError where a number cannot be the stored steps per unit of a file."""
    if not is_scale(number):
        least, most = _SCALE_RANGE
        raise UsageError(f"{flag} {number:g}: it must be a positive number, {least:g} to {most:g}")


def is_scale(number: float) -> bool:
    """Whether a number can be the stored steps per unit of a file."""
    return math.isfinite(number) and _SCALE_RANGE[0] <= number <= _SCALE_RANGE[1]


def is_ours(text: str) -> bool:
    """Whether a free-text tag (a TIFF ImageDescription, an npz member) is meant to be prv2 metadata."""
    return text.lstrip().startswith("{") and f'"software": "{SOFTWARE}"' in text


def _parse(text: str) -> dict[str, Any]:
    if len(text) > MAX_JSON:
        raise InputError("the prv2 metadata is wrong: far too long")
    try:
        data = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
        _check_depth(data)
    except (ValueError, RecursionError) as exc:
        raise InputError("the prv2 metadata is wrong: not JSON") from exc
    if not isinstance(data, dict):
        raise InputError("the prv2 metadata is wrong: not a JSON object")
    return data


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):  # Python reads 1e999, and would not write it again
        raise ValueError(f"{text[:20]} is too large for a float")
    return number


def _check_depth(data: Any) -> None:
    """Raise ValueError for lists and objects in each other deeper than _MAX_DEPTH: copying them recurses."""
    level = [data]
    for _ in range(_MAX_DEPTH):
        level = [
            part
            for value in level
            if isinstance(value, list | dict)
            for part in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return
    raise ValueError("nested too deeply")


def _problem(data: dict[str, Any]) -> str | None:
    """What is wrong with the values of `data`, or None."""
    missing = [key for key in ("software", "unit", "kind", "scale", "invalid") if key not in data]
    if missing:
        return f"no {missing[0]!r}"
    unit, kind = data["unit"], data["kind"]
    if data["software"] != SOFTWARE or not isinstance(data.get("version", ""), str):
        return "it names another software"
    if not isinstance(unit, str) or unit not in UNITS:
        return f"unknown unit {str(unit)[:40]!r}"
    if kind != UNITS[unit]:
        return f"kind {str(kind)[:40]!r} does not go with unit {unit!r}"
    if not _positive(data["scale"]) or not _SCALE_RANGE[0] <= data["scale"] <= _SCALE_RANGE[1]:
        return f"scale {str(data['scale'])[:40]} is not a sensible positive number"
    if data["invalid"] != "NaN" and not (_number(data["invalid"]) and data["invalid"] == 0):
        return "the invalid value is neither 0 nor NaN"
    return _provenance_problem(data)


def _provenance_problem(data: dict[str, Any]) -> str | None:
    for key in ("clipped", "masked", "filled"):
        count = data.get(key, 0)
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            return f"the number of {key} pixels is not a count"
    for key in ("focal_px", "fov_degrees"):
        if data.get(key) is not None and not _positive(data[key]):
            return f"{key} is not a positive number"
    if data.get("focal_origin") not in (None, *get_args(FocalOrigin)):
        return f"unknown focal_origin {str(data['focal_origin'])[:40]!r}"
    for key in _TEXT_KEYS:
        if not isinstance(data.get(key), str | None):
            return f"{key} is not text"
    return None if isinstance(data.get("extra", {}), dict) else "extra is not an object"


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _positive(value: Any) -> bool:
    """Whether `value` is a number above 0 that a float can hold."""
    return _number(value) and 0 < value < 1e300
