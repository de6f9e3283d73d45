"""Train the imitators (networks.py): a few minutes each on one core, once, kept in a folder.

Each sees scenes at sizes of its own, in log-depth or in affine inverse depth, and is kept twice: when it is young, with
much still wrong, and at its end. The one for validation is of an architecture and of sizes that training never sees.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from prv2cli.checkpoints.safe_read import open_safetensors
from prv2cli.errors import ConfigError
from prv2cli.extras import import_opencv
from prv2cli.files.atomic import atomic_write
from prv2cli.model.depth_space import NETWORK_LIMIT
from prv2cli.training.config.scenes import ImitatorsConfig
from prv2cli.training.imitators.imitate import (
    BLURRED,
    RECIPES,
    UNSEEN,
    Recipe,
    encoded,
    network_inputs,
    path_of,
)
from prv2cli.training.imitators.networks import ARCHITECTURES
from prv2cli.training.samples.augment import photograph
from prv2cli.training.samples.scene_pool import ScenePool

BATCH = 6
SCENES = 600  # of the pool, at most: the first ones
RATE, CLIP = 2e-3, 1.0
YOUNG = 0.3  # of the steps
_GRADIENT_SCALES = 3
_SCENES = "scenes"  # in the header of an imitator's file


def prepare_imitators(
    config: ImitatorsConfig,
    pool: ScenePool,
    progress: Callable[[int, int], None],
    *,
    for_training: bool = True,
) -> None:
    """Train the one for validation and, `for_training`, the others, where the cache lacks them.

    The scenes must be there. Raises ConfigError: the cache has one that was trained on others.
    """
    recipes = {"unseen": UNSEEN}
    if for_training:
        recipes |= {kind: RECIPES[kind] for kind in config.kinds if kind in RECIPES}
    for name, recipe in recipes.items():
        path = path_of(config, name)
        if not path.exists():
            _fit(name, recipe, config, pool, progress)
        elif (scenes := _scenes_of(path)) != pool.identity:
            raise ConfigError(
                f"maps.imitators.cache: {path} was trained on other scenes ({scenes}, not {pool.identity}); name "
                "another folder"
            )


def _fit(
    name: str,
    recipe: Recipe,
    config: ImitatorsConfig,
    pool: ScenePool,
    progress: Callable[[int, int], None],
) -> None:
    torch.manual_seed(config.seed)
    network = ARCHITECTURES[recipe.architecture](recipe.width).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, RATE, config.steps, pct_start=min(0.9, max(0.1, 1.5 / config.steps))
    )
    for step in range(config.steps):
        rng = np.random.default_rng((config.seed, step, *name.encode()))
        inputs, truth = _batch(recipe, pool, rng)
        loss = _loss(network(inputs) + inputs[:, -1:], truth, recipe.sharp)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimiser.step()
        schedule.step()
        progress(step + 1, config.steps)
        if step + 1 == max(1, round(YOUNG * config.steps)) and recipe is not UNSEEN:
            _save(network, path_of(config, f"{name}-young"), pool)
    _save(network, path_of(config, name), pool)


def _save(network: nn.Module, path: Path, pool: ScenePool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    with atomic_write(path) as file:
        file.write(save(state, {_SCENES: pool.identity}))


def _scenes_of(path: Path) -> str:
    """The scenes that an imitator was trained on, by its file. Raises CheckpointError: it is none."""
    with open_safetensors(path) as file:
        return str((file.metadata() or {}).get(_SCENES, "not told which"))


def _batch(recipe: Recipe, pool: ScenePool, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """The inputs of some scenes and the truth at their size, normalised."""
    size, inputs, truths = int(rng.choice(recipe.sizes)), [], []
    for index in rng.integers(min(len(pool), SCENES), size=BATCH).tolist():
        rgb, depth = pool.load(index)
        if rng.random() < 0.5:
            rgb, depth = rgb[:, ::-1], depth[:, ::-1]
        small = import_opencv().resize(
            np.ascontiguousarray(rgb), (size, size), interpolation=import_opencv().INTER_AREA
        )
        image = torch.from_numpy(photograph(small, rng)).permute(2, 0, 1)[None].float() / 255
        truth = encoded(torch.from_numpy(np.ascontiguousarray(depth))[None, None], recipe.space)[1]
        truth = truth.clamp(-NETWORK_LIMIT, NETWORK_LIMIT)
        inputs.append(network_inputs(image, truth, size, float(rng.uniform(*BLURRED))))
        truths.append(F.interpolate(truth, size=(size, size), mode="area"))
    return torch.cat(inputs).contiguous(memory_format=torch.channels_last), torch.cat(truths)


def _loss(found: Tensor, truth: Tensor, sharp: float) -> Tensor:
    """L1, and of the gradients at some scales, as networks of relative depth are trained."""
    error = found - truth
    loss = error.abs().mean()
    for scale in range(_GRADIENT_SCALES if sharp else 0):
        step = 2**scale
        part = error[..., ::step, ::step]
        loss = loss + sharp * (part.diff(dim=-1).abs().mean() + part.diff(dim=-2).abs().mean())
    return loss
