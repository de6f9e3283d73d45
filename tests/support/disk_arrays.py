"""Arrays on disk for tests, and bands so small that small pictures go through many."""

from __future__ import annotations

from pathlib import Path

import image_files
import numpy as np
import pytest

from prv2cli.files import disk_array
from prv2cli.files.disk_array import DiskArray
from prv2cli.photo import on_disk as photo_reader
from prv2cli.photo.formats import tiff_bands


def small_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pictures go through many bands, too."""
    monkeypatch.setattr(disk_array, "BAND_PIXELS", 5000)
    monkeypatch.setattr(photo_reader, "BAND_PIXELS", 700)
    monkeypatch.setattr(photo_reader, "_TURNED_ROWS", 5)
    monkeypatch.setattr(tiff_bands, "RUN_PIXELS", 8 * image_files.W)


def on_disk(values: np.ndarray, folder: Path) -> DiskArray:
    """A copy of `values` in a temporary file in `folder`."""
    array = DiskArray(values.shape, values.dtype, folder)
    array[:] = values
    return array
