"""Error maps."""

from __future__ import annotations

import numpy as np

from prv2cli.depth_files.ours.preview import INVALID_COLOUR
from prv2cli.evaluation.error_maps import ERROR_LIMIT, error_picture


def test_an_error_map_is_dark_where_right_and_the_same_scale_in_every_picture() -> None:
    truth = np.full((80, 100), 4, np.float32)
    pred = truth.copy()
    pred[:, 50:] = 4 * (1 + ERROR_LIMIT / 2)
    mask = np.ones_like(truth, bool)
    mask[:10] = False
    mild = error_picture(pred, truth, mask)
    assert mild.shape == (80 + 2 + 8, 100, 3)
    assert np.all(mild[:10] == INVALID_COLOUR)
    dark, medium = mild[40, 10].astype(int), mild[40, 90].astype(int)
    pred[:, 50:] = 40
    bright = error_picture(pred, truth, mask)[40, 90].astype(int)
    assert dark.sum() < medium.sum() < bright.sum()
    np.testing.assert_array_equal(error_picture(pred, truth, mask)[40, 10], dark)
    np.testing.assert_array_equal(mild[-1, 0], dark)  # the legend ends in both colours
    np.testing.assert_array_equal(mild[-1, -1], bright)
