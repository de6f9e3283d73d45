"""Sixteen bits a colour with Pillow's fast decoders, though Pillow holds RGB as 8 bits only: decoded twice.

Asked for a "big-endian" layout a decoder keeps the high bytes, asked for a "little-endian" one the low bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from PIL import Image, ImageFile


class TwoHalves(NamedTuple):
    """The high and the low bytes of a 16-bit picture as two loaded 8-bit Pillow pictures."""

    high: Image.Image
    low: Image.Image

    @classmethod
    def of(cls, first: ImageFile.ImageFile, second: ImageFile.ImageFile, layout: str) -> TwoHalves:
        """Of a picture that was opened twice and not loaded; `layout`: Pillow's name of it, which ends in 16B."""
        return cls(load_as(first, layout), load_as(second, layout.replace("16B", "16L")))

    def rows(self, y0: int, y1: int) -> np.ndarray:
        """Rows y0 to y1: (n, W, C) uint16."""
        box = (0, y0, self.high.width, y1)
        pixels = np.asarray(self.high.crop(box)).astype(np.uint16)
        pixels <<= 8
        pixels |= np.asarray(self.low.crop(box))
        return pixels


def load_as(image: ImageFile.ImageFile, layout: str) -> ImageFile.ImageFile:
    """Load a picture while telling Pillow's decoder that the pixels lie in the file in `layout`."""
    tile = image.tile[0]
    args = (layout, *tile[3][1:]) if isinstance(tile[3], tuple) else layout
    image.tile = [tile._replace(args=args) if hasattr(tile, "_replace") else (*tile[:3], args)]  # type: ignore[list-item]
    image.load()
    return image
