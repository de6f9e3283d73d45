"""Where a depth map is wrong, as a picture: dark is right, bright is wrong, grey has no truth. A legend lies below."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

from prv2cli.depth_files.ours.preview import colourise
from prv2cli.depth_files.ours.recognise import may_be_replaced
from prv2cli.depth_files.ours.signature import signature
from prv2cli.errors import OutputError
from prv2cli.files.atomic import atomic_write, output_error
from prv2cli.files.protected import Protected, identity
from prv2cli.files.text import shown

ERROR_LIMIT = 0.25  # relative error of the brightest colour


def error_picture(pred: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(H + legend, W, 3) uint8 of |pred - truth| / truth, from 0 to ERROR_LIMIT and more.

    Args:
        pred, truth: (H, W) metres. mask: (H, W), where it was measured; the rest is grey.
    """
    error = np.full(truth.shape, np.nan, np.float32)
    error[mask] = np.minimum(np.abs(pred[mask] - truth[mask]) / truth[mask], ERROR_LIMIT)
    height, width = truth.shape
    # The legend holds both ends of the range, so the colours mean the same in every picture.
    legend = np.linspace(-0.05, 1.05, width, dtype=np.float32).clip(0, 1) * np.float32(ERROR_LIMIT)
    rows = np.tile(legend, (max(8, height // 40), 1))
    gap = np.full((2, width), np.nan, np.float32)
    return colourise(np.vstack([error, gap, rows]), inverse=True, percentiles=(0, 100))


def error_map_path(folder: Path, name: str, row: str) -> Path:
    """Where the picture of a sample goes."""
    return folder / f"{name}.{row}.png"


def check_error_maps(
    folder: Path | None, names: Iterable[str], rows: Sequence[str], inputs: Protected | None = None
) -> None:
    """Before any work: no picture takes the place of a file of `inputs`, or of any that prv2 did not write.

    Raises UsageError, OutputError.
    """
    if folder is None:
        return
    for name, row in product(names, rows):
        path = error_map_path(folder, name, row)
        if inputs is not None:
            inputs.check("--error-maps", path)
        if identity(path) is not None and not may_be_replaced(path):
            raise OutputError(
                f"--error-maps: {shown(path)} is there and was not written by prv2; name another folder"
            )


def write_error_map(path: Path, pred: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> None:
    """error_picture() as a PNG; folders are made. Raises OutputError."""
    buffer = io.BytesIO()
    picture = Image.fromarray(error_picture(pred, truth, mask))
    picture.save(buffer, "PNG", compress_level=3, **signature("PNG"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(path.parent, error) from error
    with atomic_write(path) as file:
        file.write(buffer.getbuffer())
