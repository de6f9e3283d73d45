"""Libraries that only some commands need: imported where they are used, and named with their extra where missing.

Every function raises MissingExtraError for a library that is not installed.
"""

from __future__ import annotations

import importlib
from typing import Any

from prv2cli.errors import MissingExtraError


def import_opencv() -> Any:
    """cv2, held to one thread: scenes are made in parallel by processes, not inside one."""
    cv2 = _import("cv2", "The procedural scene maker", "train")
    cv2.setNumThreads(1)
    return cv2


def import_transformers() -> Any:
    """transformers, which runs the depth networks of others."""
    return _import("transformers", "hf: models", "transformers")


def import_edge_detector() -> Any:
    """skimage.feature."""
    return _import("skimage.feature", "Finding depth edges", "train")


def import_distances() -> Any:
    """scipy.ndimage, which comes with scikit-image."""
    return _import("scipy.ndimage", "Measuring distances of depth edges", "train")


def _import(module: str, purpose: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(purpose, extra) from error
