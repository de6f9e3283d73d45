"""Optional packages: imported where they are used only; one that is missing is told with the extra that brings it."""

from __future__ import annotations

import importlib
from typing import Any

from prv2cli.errors import MissingExtraError

# Package -> the extra of prv2cli that installs it.
EXTRAS = {
    "OpenEXR": "exr",
    "cv2": "train",
    "h5py": "train",
    "pillow_heif": "heif",
    "scipy": "train",  # comes with scikit-image
    "skimage": "train",
    "transformers": "transformers",
}
_OPENEXR = (3, 5)  # writes to files that are open, since then


def import_extra(module: str, what: str) -> Any:
    """The module, of a package in EXTRAS. Raises MissingExtraError, which says that `what` needs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(what, EXTRAS[module.partition(".")[0]]) from error


def opencv() -> Any:
    """The cv2 module, held to one thread: scenes are made in parallel by processes, not inside one."""
    cv2 = import_extra("cv2", "The procedural scene maker")
    cv2.setNumThreads(1)
    return cv2


def openexr() -> Any:
    """The OpenEXR module, recent enough. Raises MissingExtraError."""
    what = "An .exr file"
    module = import_extra("OpenEXR", what)
    if tuple(map(int, module.__version__.split(".")[:2])) < _OPENEXR:
        raise MissingExtraError(what, EXTRAS["OpenEXR"])
    return module
