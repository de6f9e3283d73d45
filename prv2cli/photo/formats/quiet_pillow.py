"""Pillow's own limits, warnings and leniency, which are globals of the process: off while photographs are read."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from PIL import Image, ImageFile


class _QuietPillow:
    """Count the reads in progress; while there are any, Pillow's own limit, warnings and leniency are off.

    These are globals of the process. Several threads that each saved and restored them would do so in the
    wrong order, so the first read saves them and the last one restores them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers = 0
        self._saved: tuple[Any, Any] = (None, None)
        self._warnings = warnings.catch_warnings()

    def begin(self) -> None:
        with self._lock:
            if self._readers == 0:
                self._saved = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
                Image.MAX_IMAGE_PIXELS = None  # `max_pixels` is checked instead
                ImageFile.LOAD_TRUNCATED_IMAGES = False  # another library may have set it: silent grey areas
                self._warnings = warnings.catch_warnings()
                self._warnings.__enter__()
                warnings.simplefilter("ignore")
            self._readers += 1

    def end(self) -> None:
        with self._lock:
            self._readers -= 1
            if self._readers == 0:
                Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = self._saved
                self._warnings.__exit__(None, None, None)


_QUIET = _QuietPillow()


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """For a block that reads photographs, in any thread."""
    _QUIET.begin()
    try:
        yield
    finally:
        _QUIET.end()
