"""prv2: one photograph in, one sharp, metric, full-resolution depth map out (PatchRefiner V2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prv2cli.version import __version__

__all__ = ["Depth", "Refiner", "__version__"]

if TYPE_CHECKING:
    from prv2cli.refine.fuse import Depth
    from prv2cli.refine.refiner import Refiner


def __getattr__(name: str) -> Any:
    """Import the public names on first use: `import prv2cli` must not import torch."""
    if name in ("Depth", "Refiner"):
        from prv2cli.refine import refiner

        return getattr(refiner, name)
    raise AttributeError(f"module 'prv2cli' has no attribute {name!r}")
