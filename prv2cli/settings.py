"""What every configuration is made of: groups of settings that are validated on construction, and read from YAML.

Settings             base of each group: unknown keys are refused with what would do, values are frozen
read_settings_file   a YAML file -> settings, not validated
explain              what pydantic found wrong -> one line that names file, key, value and what would do
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from prv2cli.errors import ConfigError
from prv2cli.files.text import shown

# Larger numbers are no counts and no sides, and may overflow where they meet a float.
PositiveInt = Annotated[int, Field(gt=0, le=10**30, strict=True)]
Probability = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Size = tuple[PositiveInt, PositiveInt]  # rows, columns
Range = tuple[float, float]


class _UnknownKey(ValueError):
    """An unknown key among settings, and what would do."""

    def __init__(self, key: Any, known: Collection[str]) -> None:
        likely = difflib.get_close_matches(str(key), known, 2)
        hint = f"did you mean {' or '.join(likely)}?" if likely else f"there are {', '.join(known)}"
        super().__init__(f"no such setting; {hint}")
        self.key = key


class Settings(BaseModel):
    """Base of every group of settings: unknown keys are errors, values never change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _keys_are_known(cls, raw: Any) -> Any:
        """Refuse an unknown key with what would do, which `extra` does not say."""
        for key in raw if isinstance(raw, dict) else ():
            if key not in cls.model_fields:
                raise _UnknownKey(key, cls.model_fields)
        return raw


# A few lines of YAML with aliases can stand for more values than any memory holds: repr() would write them all.
_VALUES = reprlib.Repr()
_VALUES.maxstring = _VALUES.maxother = 80
_VALUES.maxlevel = 2


def explain(error: ValidationError, where: str, raw: Any = None) -> ConfigError:
    """The first problem pydantic found, as one line that names the key, the value and what would do.

    raw: what was validated; with it the key is named as it is written, without the kind that pydantic chose by it.
    """
    first = error.errors()[0]
    place, given = first["loc"], first["input"]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, _UnknownKey):
        place, given = (*place, cause.key), given[cause.key]
    if raw is not None:
        place = tuple(_as_written(place, raw))
    key = ".".join(str(part) for part in place) or "the configuration"
    text = first["msg"].removeprefix("Value error, ")
    value = "" if isinstance(given, dict) else f" (got {_VALUES.repr(given)})"
    return ConfigError(f"{where}: {shown(key)[:200]}: {shown(text)[:400]}{value}")


def _as_written(place: tuple[int | str, ...], raw: Any) -> list[int | str]:
    """A location without the tags of unions: what is no key there, unless it is the last part (a missing key)."""
    kept: list[int | str] = []
    for index, part in enumerate(place, 1):
        if isinstance(raw, dict) and part not in raw and index < len(place):
            continue
        kept.append(part)
        try:
            raw = raw[part]
        except (KeyError, IndexError, TypeError):
            raw = None
    return kept


def read_settings_file(path: Path) -> dict[str, Any]:
    """The settings in a YAML file, not validated. Raises ConfigError: no such file, no YAML, no settings."""
    name = shown(path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"--config {name}: no such file") from error
    except (
        Exception
    ) as error:  # besides YAMLError: whatever the makers of dates, numbers and deep nesting raise
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise ConfigError(f"--config {name}: not a readable YAML file ({shown(reason)[:200]})") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"--config {name}: expected settings (key: value), found {type(raw).__name__}")
    return raw
