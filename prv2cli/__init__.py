"""prv2: one photograph in, one sharp, metric, full-resolution depth map out (PatchRefiner V2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Depth", "Refiner", "__version__"]

if TYPE_CHECKING:
    from prv2cli.inference import Refiner
    from prv2cli.result import Depth


def __getattr__(name: str) -> Any:
    """Import the public names on first use: `import prv2cli` must not import torch."""
    if name in ("Depth", "Refiner"):
        from prv2cli import inference

        return getattr(inference, name)
    raise AttributeError(f"module 'prv2cli' has no attribute {name!r}")
