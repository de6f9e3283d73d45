"""A Refiner that does the same with every photograph: what measures a model over a data set takes it as a function."""

from __future__ import annotations

from typing import Any

import numpy as np

from prv2cli.refine.fuse import Depth
from prv2cli.refine.refiner import Refiner
from prv2cli.refine.request import GivenDepth, RefineRequest, Subject


class AskedRefiner:
    """evaluation.of_model.RefinerLike, from a Refiner and what is asked of it."""

    def __init__(self, refiner: Refiner, request: RefineRequest) -> None:
        self._refiner, self._request = refiner, request

    @property
    def bundle(self) -> Any:
        """Whether it refines its own depth only: see Refiner."""
        return self._refiner.bundle

    def refine(
        self,
        rgb: np.ndarray,
        *,
        focal_px: float | None = None,
        coarse_depth: np.ndarray | None = None,
        coarse_unit: Any = "metre",
    ) -> Depth:
        """Depth of a photograph as it is asked for; of a part of one behind its part of a coarse map, in one tiling."""
        if coarse_depth is None:
            return self._refiner.run([Subject(rgb, focal_px)], self._request)[0]
        given = GivenDepth(coarse_depth, unit=coarse_unit, estimated=True)
        return self._refiner.run([Subject(rgb, focal_px, given)], RefineRequest())[0]
