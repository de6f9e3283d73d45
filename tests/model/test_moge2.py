"""MoGe-2's network against reference vectors made with the authors' code, and its grid of patches.

`moge2_vits` is the published small network; `moge2_llayout` has the layout of the large one at its width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from golden_rules import TOLERANCE, Golden, image
from torch import Tensor

from prv2cli.checkpoints.authors.moge2 import convert_moge2
from prv2cli.checkpoints.model_file import load_strictly
from prv2cli.model.coarse.moge2 import Moge2Coarse, choose_tokens, token_grid
from prv2cli.model.coarse.point_map import plane_positions

VITS, LARGE = Golden.load("moge2_vits"), Golden.load("moge2_llayout")
NORMALS = 3e-4  # absolute: the vector before its length is divided out can be near 0
RUNS = [("t48", (150, 205), 48), ("t130", (150, 205), 130)]


def published(golden: Golden) -> dict[str, Tensor]:
    """The state dict as the authors store it, with the constants that are in the file."""
    constants = {name: torch.tensor(v).view(1, 3, 1, 1) for name, v in golden.meta["constants"].items()}
    return golden.state() | constants


def build(golden: Golden) -> Moge2Coarse:
    config, tensors = convert_moge2(published(golden), golden.meta["config"])
    model = Moge2Coarse(config).eval()
    load_strictly(model, tensors)
    return model


@pytest.fixture(scope="module")
def small() -> Moge2Coarse:
    return build(VITS)


@torch.inference_mode()
@pytest.mark.parametrize(("tag", "size", "tokens"), RUNS, ids=[run[0] for run in RUNS])
def test_network(tag: str, size: tuple[int, int], tokens: int, small: Moge2Coarse) -> None:
    check_run(VITS, small, tag, size, tokens)


@torch.inference_mode()
def test_layout_of_the_large_network() -> None:
    check_run(LARGE, build(LARGE), "t54", (110, 170), 54)


@torch.inference_mode()
def test_positions_as_they_were_learnt(small: Moge2Coarse) -> None:
    """A grid of 37 x 37 is the one of the weights: nothing is interpolated."""
    check_run(VITS, small, "t1369", (96, 96), 1369)


def check_run(golden: Golden, model: Moge2Coarse, tag: str, size: tuple[int, int], tokens: int) -> None:
    """Every stored array of a run: the encoder, the neck, what the heads give before and after their last step."""
    rgb = image(golden.seed, (1, 3, *size))
    grid = token_grid(*size, tokens)
    encoded, summary = model.encode(rgb, grid)
    found = model.map_points(rgb, grid, size)
    neck = found.features[-2::-1]
    full: dict[str, Callable[[], Tensor]] = {
        "enc_feat": lambda: encoded,
        "cls_token": lambda: summary,
        "points_raw": lambda: model.points(neck)[0],
        "mask_raw": lambda: model.validity(neck)[0],
        "normal_raw": lambda: present(model.normals)(neck)[0],
        "points": lambda: found.points.permute(0, 2, 3, 1),
        "mask": lambda: found.validity[:, 0],
        "normal": lambda: present(found.normals).permute(0, 2, 3, 1),
        "metric_scale": lambda: found.scale,
    }
    for name in (name for name in golden.meta["outputs"] if name.startswith(f"{tag}_")):
        part = name.removeprefix(f"{tag}_")
        if part.startswith("neck"):
            value = neck[int(part[-1])]
        elif part.startswith("uv"):
            k = int(part[-1])
            value = plane_positions(grid[0] << k, grid[1] << k, size[1] / size[0])[None]
        else:
            value = full[part]()
        assert golden.error(name, value) < (NORMALS if part == "normal" else TOLERANCE), name


def present(part: Any) -> Any:
    assert part is not None
    return part


def test_grids_of_patches() -> None:
    header, *rows = VITS.meta["values"]["token_grid"]
    assert header == ["height", "width", "num_tokens", "rows", "columns"]
    for height, width, tokens, *expected in rows:
        assert list(token_grid(height, width, tokens)) == expected


@pytest.mark.parametrize(
    ("height", "width", "tokens", "grid"),
    [
        (1, 100_000, 1200, (1, 1200)),  # the authors' rule has no row there
        (100_000, 1, 1200, (1200, 1)),
        (10, 9000, 3600, (2, 1800)),
    ],
)
def test_grids_of_strips(height: int, width: int, tokens: int, grid: tuple[int, int]) -> None:
    assert token_grid(height, width, tokens) == grid


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(3000, 4000, 3600), (300, 400, 1200), (560, 700, 2000), (1, 1, 1200)],
)
def test_tokens_follow_the_photograph(height: int, width: int, expected: int) -> None:
    assert choose_tokens(height, width, (1200, 3600)) == expected


@torch.inference_mode()
def test_as_a_coarse_branch(small: Moge2Coarse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pictures of one size as one after the other: depth in metres, what is valid, six features."""
    pictures = torch.stack([image(seed, (3, 56, 84)) for seed in (5, 6)])
    monkeypatch.setattr(small, "config", small.config.model_copy(update={"tokens": (24, 24)}))
    together, alone = small(pictures), [small(picture[None]) for picture in pictures]
    assert tuple(feature.shape[1] for feature in together.features) == small.channels
    for k, single in enumerate(alone):
        torch.testing.assert_close(together.depth[k], single.depth[0], rtol=1e-3, atol=1e-3)
        assert torch.equal(present(together.valid)[k], present(single.valid)[0])
        assert float(present(together.focal)[k]) == pytest.approx(float(present(single.focal)[0]), rel=1e-3)
    assert (together.depth > 0).all()
    assert torch.isfinite(together.depth).all()
