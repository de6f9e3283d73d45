"""Coarse branches: networks that look once at the down-sampled photograph. All give a CoarseOutput."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class CoarseOutput(NamedTuple):
    """What a coarse branch hands to the refiner.

    Attributes:
        depth: (B, 1, h, w) metres.
        features: maps of levels 0 (high resolution) to the lowest; each (B, C_k, h_k, w_k) over the whole image.
        valid: (B, 1, h, w) boolean, False where the network sees no surface (the sky); None: it does not say.
        focal: (B,) focal lengths that the network found, in half diagonals of the image; None: it knows none.
        normals: (B, 3, h, w) unit vectors, x to the right, y down, z away from the camera; None: it gives none.
        log_doubt: (B,) natural log of the expected error of the scale, itself in natural log of depth; None where the
            network says nothing of it.
    """

    depth: Tensor
    features: list[Tensor]
    valid: Tensor | None = None
    focal: Tensor | None = None
    normals: Tensor | None = None
    log_doubt: Tensor | None = None

    def of(self, image: int) -> CoarseOutput:
        """What it says of one of the B images, as a batch of one."""
        part = slice(image, image + 1)
        return CoarseOutput(
            depth=self.depth[part],
            features=[level[part] for level in self.features],
            valid=None if self.valid is None else self.valid[part],
            focal=None if self.focal is None else self.focal[part],
            normals=None if self.normals is None else self.normals[part],
            log_doubt=None if self.log_doubt is None else self.log_doubt[part],
        )
