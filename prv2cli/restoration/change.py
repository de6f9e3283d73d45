"""How much a refined map differs from the coarse one around every pixel: where it does, the coarse map was wrong.

By rank this tells the true error better than the disagreement of several predictions does; the confidence is made of
both (tiling/disagreement.py has the formula).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from prv2cli.files.disk_array import DiskArray, bands
from prv2cli.resampling.maps import bilinear, rows_of

REACH = 4  # pixels each way, in which the change is averaged
SHARE = 0.3  # of it that counts as disagreement


def add_change(spread: np.ndarray | DiskArray, refined: np.ndarray | DiskArray, coarse: Tensor) -> None:
    """Add the share of the change to a disagreement, in place and band by band.

    Args:
        spread, refined: (H, W). coarse: (1, 1, h, w) of any size. All in one space.
    """
    height, width = refined.shape
    across = bilinear(coarse[0, 0].numpy(), (coarse.shape[-2], width))
    for rows in bands(height, width):
        top, bottom = max(0, rows.start - REACH), min(height, rows.stop + REACH)
        change = np.abs(refined[top:bottom] - rows_of(across, height, slice(top, bottom)))
        padded = F.pad(torch.from_numpy(change)[None, None], (REACH,) * 4, mode="replicate")
        mean = F.avg_pool2d(padded, 2 * REACH + 1, 1)[0, 0].numpy()
        spread[rows] = spread[rows] + SHARE * mean[rows.start - top : rows.stop - top]
