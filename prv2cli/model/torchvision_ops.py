"""What it takes to import torchvision, which timm and transformers need, next to a CPU-only torch."""

from __future__ import annotations

import torch

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_libraries: list[torch.library.Library] = []  # a definition lives as long as its Library object


def make_torchvision_importable() -> None:
    """Import torchvision; where its compiled part does not load, so that the next import of it succeeds.

    PyPI's torchvision is compiled against PyPI's torch. Beside a CPU-only torch its extension cannot load, and
    `import torchvision` stops at "operator torchvision::nms does not exist". prv2 calls none of these operators, so
    their bare schemas are enough. Without any torchvision nothing is done: whoever needs it says so.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        declare_missing_torchvision_ops()
    except ImportError:
        return


def declare_missing_torchvision_ops() -> list[str]:
    """Declare the torchvision operators that no compiled extension has registered; the names of those."""
    missing = [name for name in _SCHEMAS if not hasattr(torch.ops.torchvision, name)]
    if missing:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in missing:
            library.define(_SCHEMAS[name])
        _libraries.append(library)
    return missing
