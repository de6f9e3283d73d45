"""From a model's name to a file on this machine. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from prv2cli.errors import UsageError

DEFAULT_REFINER = "refiner-s"
DEFAULT_COARSE = "lite"


def weights_folder() -> Path:
    """The shipped checkpoints: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "weights"
    return installed if installed.is_dir() else package.parent / "weights"


def registry() -> dict[str, dict[str, Any]]:
    """The registered models by name, from weights/registry.yaml."""
    entries = yaml.safe_load((weights_folder() / "registry.yaml").read_text(encoding="utf-8"))
    return {entry["name"]: entry for entry in entries["models"]}


def resolve(model: str | Path) -> Path:
    """The file of a model given by path or by registered name.

    Raises:
        UsageError: neither a file nor a registered name.
    """
    path = Path(model)
    if path.is_file():
        return path
    known = registry()
    if str(model) in known:
        return weights_folder() / known[str(model)]["file"]
    raise UsageError(
        f"model {str(model)!r} is neither a file nor a known name; known: {', '.join(sorted(known))}"
    )


def display_name(model: str | Path) -> str:
    """A model's name in messages and metadata: the registered one, or its file's name without the folder."""
    return Path(model).name if Path(model).is_file() else str(model)
