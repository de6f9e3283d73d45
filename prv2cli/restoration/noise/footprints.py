"""What each pixel of a small map covers of a larger grid, whose means it holds."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from prv2cli.resampling.maps import nearest


class Footprints(NamedTuple):
    """owner: (N,) the small map's pixel over each cell of the grid. area: (n,) cells that each covers."""

    owner: np.ndarray
    area: np.ndarray

    @classmethod
    def of(cls, size: tuple[int, int], small: tuple[int, int]) -> Footprints:
        """Of a map of `small` rows and columns on a grid of `size`, no fewer of either."""
        owner = nearest(np.arange(math.prod(small)).reshape(small), size).ravel()
        return cls(owner, np.bincount(owner).astype(np.float64))

    def means(self, values: np.ndarray) -> np.ndarray:
        """(N,) of the grid -> (n,) of the small map."""
        return np.bincount(self.owner, values) / self.area


class Shares(NamedTuple):
    """How a small map's pixels are made of groups of cells: `share` (P,) of `pixel` (P,) is of `group` (P,)."""

    footprints: Footprints
    pixel: np.ndarray
    group: np.ndarray
    share: np.ndarray

    @classmethod
    def of(cls, footprints: Footprints, groups: np.ndarray) -> Shares:
        """`groups`: (N,) the group of each cell."""
        count = int(groups.max()) + 1
        pairs, cells = np.unique(footprints.owner * count + groups, return_counts=True)
        pixel, group = np.divmod(pairs, count)
        return cls(footprints, pixel, group, cells / footprints.area[pixel])

    def means(self, groups: np.ndarray) -> np.ndarray:
        """(G,) -> (n,): the small map, where every group has one value."""
        return np.bincount(self.pixel, self.share * groups[self.group])

    def transposed(self, pixels: np.ndarray) -> np.ndarray:
        """(n,) -> (G,): what `means` is, the other way round."""
        return np.bincount(self.group, self.share * pixels[self.pixel])

    def diagonal(self, weights: np.ndarray) -> np.ndarray:
        """(G,): that of transposed(weights * means(.))."""
        return np.bincount(self.group, self.share**2 * weights[self.pixel])
