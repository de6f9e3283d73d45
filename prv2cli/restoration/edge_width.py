"""How wide the edges of a coarse depth map are: what decides whether a pass at half size comes first."""

from __future__ import annotations

import math

from torch import Tensor

from prv2cli.restoration.blur import blur

WIDE_EDGES = 16.0  # pixels (standard deviation): a pass at full size does not reach across wider ones
_MEASURED_BEHIND = 2.0  # px, of a Gaussian
_ROUNDING = 1e-6  # of log-depth


def edge_width(log_depth: Tensor) -> float:
    """Standard deviation, in pixels, of the blur that the sharper edges of a (1, 1, h, w) map of log-depth have seen.

    Across a step blurred by a Gaussian of width s, the gradient g and its derivative g' obey s^2 = sum(g^4) /
    (4 sum(g^2 g'^2)); the fourth power makes the strong edges count, and flat parts nothing. It is measured behind a
    blur more, which hides noise and the corners of an up-sampled map; its variance is taken off. 0 for a flat map.
    """
    fourth = mixed = 0.0
    log_depth = blur(log_depth, _MEASURED_BEHIND)
    for axis in (2, 3):
        if log_depth.shape[axis] < 4:
            continue
        gradient = log_depth.diff(dim=axis)
        length = gradient.shape[axis] - 1
        central = (gradient.narrow(axis, 0, length) + gradient.narrow(axis, 1, length)) / 2
        change = gradient.diff(dim=axis)
        fourth += float(central.double().pow(4).sum())
        mixed += 4 * float((central * change).double().square().sum())
    # Rounding is all the change there is in a flat map.
    if mixed <= _ROUNDING**4 * log_depth.numel():
        return 0.0
    return math.sqrt(max(0.0, fourth / mixed - _MEASURED_BEHIND**2))
