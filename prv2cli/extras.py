"""Libraries that only some commands need: imported where they are used, and named with their extra where missing.

Every function raises MissingExtraError for a library that is not installed.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from prv2cli.errors import MissingExtraError

_OPENEXR = (3, 5)


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


def import_h5py() -> Any:
    """h5py, which reads the files of Hypersim and Spring."""
    return _import("h5py", "Reading HDF5 files", "train")


def import_matlab_files() -> Any:
    """scipy.io, which comes with scikit-image."""
    return _import("scipy.io", "Reading MATLAB's files", "train")


def import_muon() -> Any:
    """The optimiser of a timm recent enough for AdamW in it to follow each group's rate."""
    what = "optimiser.kind muon"
    muon = _import("timm.optim.muon", what, "train").Muon
    if "fallback_lr_scale" not in inspect.signature(muon).parameters:
        raise MissingExtraError(what, "train")
    return muon


def import_openexr() -> Any:
    """OpenEXR, recent enough to write to files that are open."""
    module = _import("OpenEXR", "An .exr file", "exr")
    if tuple(map(int, module.__version__.split(".")[:2])) < _OPENEXR:
        raise MissingExtraError("An .exr file", "exr")
    return module


def import_plyfile() -> Any:
    """plyfile, which writes points."""
    return _import("plyfile", "A .ply file", "mesh")


def import_trimesh() -> Any:
    """trimesh, which writes meshes."""
    return _import("trimesh", "A .glb or .obj file", "mesh")


def import_pillow_heif(photograph: str) -> Any:
    """pillow_heif; `photograph` is the one that needs it."""
    return _import("pillow_heif", f"Reading HEIC photographs ({photograph})", "heif")


def _import(module: str, purpose: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(purpose, extra) from error
