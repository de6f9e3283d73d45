"""Procedural scenes: `make_scene` gives a picture and its exact depth from a seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["Scene", "make_scene"]

if TYPE_CHECKING:
    from prv2cli.scenes.make import Scene, make_scene


def __getattr__(name: str) -> Any:
    """Import the public names on first use: numpy is not needed to look into the package."""
    if name in __all__:
        from prv2cli.scenes import make

        return getattr(make, name)
    raise AttributeError(f"module 'prv2cli.scenes' has no attribute {name!r}")
