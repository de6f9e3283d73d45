"""Settings of a run from a YAML file, the files it is based on, and key=value."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from prv2cli.errors import ConfigError
from prv2cli.files.text import shown
from prv2cli.settings import explain, read_settings_file
from prv2cli.training.config.run import TrainConfig

MAX_BASES = 8  # configuration files on top of each other


def load_train_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a YAML file, apply `key.sub=value` overrides, validate.

    `base: other.yaml` in it names a file beside it, whose settings hold where it says nothing.

    Raises:
        ConfigError: the file is missing or no YAML, or a key or value is wrong; nothing has run yet.
    """
    raw = _read_with_bases(path)
    for override in overrides:
        _apply_override(raw, override)
    try:
        return TrainConfig.model_validate(raw)
    except ValidationError as error:
        raise explain(error, shown(path), raw) from error


def _read_with_bases(path: Path) -> dict[str, Any]:
    raw, last = read_settings_file(path), path
    for _ in range(MAX_BASES):
        if (base := raw.pop("base", None)) is None:
            return raw
        if not isinstance(base, str):
            raise ConfigError(f"--config {shown(last)}: base: name a file beside it (got {base!r})")
        last = last.parent / base
        raw = _merged(read_settings_file(last), raw)
    raise ConfigError(f"--config {shown(path)}: base: more than {MAX_BASES} files on top of each other")


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` over `below`: groups of settings key by key, unless they choose another kind or layout."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and not _another_kind(old, value):
            result[key] = _merged(old, value)
        else:
            result[key] = value
    return result


def _another_kind(old: dict[str, Any], new: dict[str, Any]) -> bool:
    told = {"layout": "scenes", **old}  # what data are where nothing is said
    return any(tag in new and new[tag] != told.get(tag) for tag in ("kind", "layout"))


def _apply_override(raw: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"{override!r} is not an override; write key=value, e.g. optimiser.lr=0.001")
    *parents, leaf = key.split(".")
    group = raw
    for name in parents:
        group = group.setdefault(name, {})
        if not isinstance(group, dict):
            raise ConfigError(f"{override!r}: {name} is a value, not a group of settings")
    try:
        group[leaf] = yaml.safe_load(text)
    except Exception as error:  # as in read_settings_file
        raise ConfigError(
            f"{override!r}: the value is not readable YAML (a bracket or quote left open?)"
        ) from error
