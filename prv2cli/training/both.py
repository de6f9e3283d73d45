"""A refiner's two sets of weights: a run for each, and both in one file.

What a blurred map lost can be undone exactly, what a network or a sensor has wrong cannot: weights for both give up a
tenth of what weights for one reach. Which are used the program tells from the map itself (refine/prepare.py).

    OUT/blurred/            the run for maps that were blurred and nothing else (`blurred`), which comes first
    OUT/                    the run for maps of networks and sensors, as `maps` has them, from the weights of the other
    OUT/both.safetensors    the two

Behind maps of all kinds a network that knows nothing yet learns to copy them, and stays there; behind blurred ones it
finds its features.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from prv2cli.checkpoints.model_file import BLURRED, Checkpoint, read_checkpoint, write_tensors
from prv2cli.training.config.run import TrainConfig
from prv2cli.training.config.scenes import MapsConfig
from prv2cli.training.loop.state import BEST, LAST

FOR_BLURRED, BOTH = Path("blurred"), Path("both.safetensors")


def blurred_run(config: TrainConfig) -> TrainConfig:
    """The settings of the run for blurred maps, whose last weights count: there is nothing to choose among them by."""
    assert config.blurred is not None
    changes = {
        "steps": config.blurred.steps or config.steps,
        "maps": MapsConfig(),
        "degrade": config.blurred.degrade,
        "evaluation": None,
        "blurred": None,
    }
    return config.model_copy(update=changes)


def general_run(config: TrainConfig) -> TrainConfig:
    """The settings of the run for all other maps. Weights of the run before need no beginning of another kind."""
    refine = config.refine
    if config.start_from is None:
        refine = refine.model_copy(update={"smooth_until": 0.0, "cascade_from": 0.0})
    return config.model_copy(update={"refine": refine, "blurred": None})


def write_both(out: Path, config: TrainConfig) -> Path:
    """Put the weights of both runs, which are done, into one file. Raises CheckpointError, OutputError."""
    assert config.blurred is not None
    chosen = BEST if config.chooses_best and (out / BEST).exists() else LAST
    both = joined(
        read_checkpoint(out / chosen), read_checkpoint(out / FOR_BLURRED / LAST), config.blurred.steeper
    )
    # As 16-bit numbers the two take the room of one.
    write_tensors(out / BOTH, both.stored, both.config, both.provenance, half=True)
    return out / BOTH


def joined(refiner: Checkpoint, blurred: Checkpoint, steeper: float) -> Checkpoint:
    """The refiner with the weights of another of its shape beside its own, whose choice is `steeper`.

    Raises CheckpointError where the two are of different shapes.
    """
    second = _steepened(blurred.tensors, steeper)
    replace(refiner, tensors=second, name=blurred.name).build()
    told = {**refiner.provenance, BLURRED.rstrip("."): {**blurred.provenance, "steeper": steeper}}
    return replace(refiner, blurred=second, provenance=told)


def second_set(checkpoint: Checkpoint) -> Checkpoint:
    """The weights for blurred maps as their run left them; of a file with one set of weights, that."""
    second = checkpoint.for_blurred()
    if second is None:
        return checkpoint
    told = checkpoint.provenance.get(BLURRED.rstrip("."))
    steeper = told.get("steeper") if isinstance(told, dict) else None
    if not isinstance(steeper, int | float) or steeper < 1:  # no file of ours
        return second
    return replace(second, tensors=_steepened(second.tensors, 1 / steeper))


def _steepened(tensors: dict[str, Tensor], steeper: float) -> dict[str, Tensor]:
    """With the choice of a two-surface head `steeper`: the first third of its outputs (model/refiner/heads.py)."""
    if steeper == 1:
        return tensors
    found = dict(tensors)
    for name in ("head.to_surfaces.weight", "head.to_surfaces.bias"):
        choice, rest = tensors[name].float().tensor_split([len(tensors[name]) // 3])
        found[name] = torch.cat([steeper * choice, rest])
    return found
