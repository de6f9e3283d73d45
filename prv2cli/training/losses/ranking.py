"""A pseudo-label's order of depths: pairs of pixels around its edges and at random."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from prv2cli.evaluation.metrics.edges import canny_edges
from prv2cli.training.losses.differences import match_size
from prv2cli.training.losses.truth import LOG_FLOOR

_EQUAL = 0.03  # depths whose ratio is below 1.03 rank as equal
_NEAREST, _FARTHEST = 2, 30  # px from an edge at which its points are taken


def edge_guided_ranking(
    prediction: Tensor,
    pseudo_label: Tensor,
    valid: Tensor,
    generator: torch.Generator,
    *,
    edges: Tensor | None = None,
    anchors: int = 10_000,
    unit: float = 1.0,
) -> Tensor:
    """Ranking over pairs around the pseudo-label's depth edges and as many random pairs, drawn anew.

    Args:
        prediction, pseudo_label: (B, 1, H, W) metres, which may differ in size: the pseudo-label is resized.
        valid: bool, of the prediction's size: where the pseudo-label is to be trusted (not where a sparse truth
            was measured, which this loss does not need). Only pairs of valid pixels count.
        generator: on the CPU; the same state draws the same pairs on every device.
        edges: bool, of the prediction's size. None: Canny edges of the log of the pseudo-label, which need
            scikit-image.
        anchors: edge pixels per image, drawn with replacement; three pairs each.
        unit: metres, see `ranking`.

    Raises:
        MissingExtraError: edges are to be found and scikit-image is not installed.
    """
    pseudo_label = match_size(pseudo_label, prediction)
    if edges is None:
        found = [torch.from_numpy(canny_edges(depth[0].cpu().numpy())) for depth in pseudo_label.detach()]
        edges = torch.stack(found)[:, None].to(valid.device)
    pairs = []
    for depth, one_valid, one_edges in zip(pseudo_label[:, 0], valid[:, 0], edges[:, 0], strict=True):
        near_edges = edge_pairs(depth, one_edges, one_valid, anchors, generator)
        pairs.append(torch.cat([near_edges, random_pairs(one_valid, near_edges.shape[1], generator)], dim=1))
    return ranking(prediction, pseudo_label, pairs, unit=unit)


def edge_pairs(
    depth: Tensor, edges: Tensor, valid: Tensor, anchors: int, generator: torch.Generator
) -> Tensor:
    """Pairs of pixels beside and across depth edges, after Xian et al. (CVPR 2020, structure-guided ranking).

    Through each anchor, a random valid edge pixel, goes a line along the gradient of log-depth. On it lie four
    points, two on each side in random distances of 2 to 30 px: a, b | c, d. The pairs are ab, bc and cd.

    Args:
        depth: (H, W) metres. edges, valid: (H, W) bool.
        anchors: how many, drawn with replacement.

    Returns:
        (2, N) flat indices on the device of `depth`, N <= 3 * anchors: pairs with an end outside the image or
        the mask are left out.
    """
    height, width = depth.shape
    rows, columns = torch.nonzero(edges & valid, as_tuple=True)
    if not len(rows):
        return torch.empty(2, 0, dtype=torch.long, device=depth.device)
    chosen = torch.randint(len(rows), (anchors,), generator=generator).to(depth.device)
    distance, _ = torch.randint(_NEAREST, _FARTHEST + 1, (2, 2, anchors), generator=generator).sort(dim=1)
    steps = torch.cat([-distance[0].flip(0), distance[1]]).to(depth)  # (4, anchors), a farthest on one side
    rows, columns = rows[chosen], columns[chosen]
    direction = _gradient_angle(depth)[rows, columns]
    y = rows + torch.round(steps * torch.sin(direction)).long()
    x = columns + torch.round(steps * torch.cos(direction)).long()
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    index = torch.where(inside, y * width + x, 0)
    inside &= valid.flatten()[index]
    kept = inside[:-1] & inside[1:]
    return torch.stack([index[:-1][kept], index[1:][kept]])


def random_pairs(valid: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """(2, N) flat indices of random valid pixels, N = min(count, valid pixels); no pixel twice in one row.

    Args:
        valid: (H, W) bool.
    """
    pixels = torch.nonzero(valid.flatten()).flatten()
    rows = [torch.randperm(len(pixels), generator=generator)[:count] for _ in range(2)]
    return pixels[torch.stack(rows).to(pixels.device)]


def ranking(
    prediction: Tensor,
    pseudo_label: Tensor,
    pairs: Sequence[Tensor],
    *,
    unit: float = 1.0,
) -> Tensor:
    """Does the prediction order pairs of pixels as the pseudo-label does? Mean over images of the mean over pairs.

    A pair (a, b) has order l = 1 if the pseudo-label's ratio a / b reaches 1.03, -1 if b / a does, else
    0; it costs log(1 + exp(-l * (a - b))), or (a - b)^2 if l is 0, a and b being the prediction's depths.

    Args:
        prediction, pseudo_label: (B, 1, H, W) metres.
        pairs: per image (2, N) flat indices. An image without pairs costs nothing.
        unit: metres that make a difference of one. The authors use 250 / 80 on Cityscapes.
    """
    total = prediction.new_zeros(())
    maps = zip((prediction / unit).flatten(1), pseudo_label.flatten(1), pairs, strict=True)
    for depth, label, (first, second) in maps:
        difference = depth[first] - depth[second]
        ratio = torch.log(label[first] + 1e-6) - torch.log(label[second] + 1e-6)
        order = torch.sign(ratio) * (ratio.abs() >= math.log1p(_EQUAL))
        cost = torch.where(order == 0, difference**2, F.softplus(-order * difference))
        total = total + cost.sum() / max(len(first), 1)
    return total / len(prediction)


def _gradient_angle(depth: Tensor) -> Tensor:
    """(H, W) radians: where log-depth rises, by Sobel's differences; 0 is to the right, pi / 2 down."""
    log_depth = torch.log(depth.clamp(min=LOG_FLOOR))
    padded = F.pad(log_depth[None, None], (1, 1, 1, 1), mode="replicate")
    difference = padded.new_tensor([-1.0, 0.0, 1.0])
    smooth = padded.new_tensor([1.0, 2.0, 1.0])
    kernels = torch.stack([torch.outer(smooth, difference), torch.outer(difference, smooth)])
    right, down = F.conv2d(padded, kernels[:, None])[0]
    return torch.atan2(down, right)
