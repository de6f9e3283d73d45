"""Which settings of a run fit together. Each check raises ValueError, whose text begins with a key where it can."""

from __future__ import annotations

import math

from prv2cli.datasets.layouts import ProceduralData
from prv2cli.model.config import AnyModelConfig, BundleConfig, RefinerConfig
from prv2cli.settings import Size
from prv2cli.tiling.plan import REDUCED
from prv2cli.training.config.losses import TransferConfig
from prv2cli.training.config.samples import SamplingConfig
from prv2cli.training.config.scenes import HELD_OUT_SEED, BlurredConfig, SceneDataConfig, TrainData

_COARSE_STRIDE = 32
# What the sides of a coarse network's input must be multiples of; of any other kind, of _COARSE_STRIDE.
_MULTIPLES: dict[str, int] = {"dav2": 14, "moge2": 1}
KINDS = {
    "coarse": ("lite", "dav2", "zoedepth"),
    "noisy-pretrain": ("bundle",),
    "refine": ("refiner", "bundle"),
    "transfer": ("bundle",),
}


def check_kind(stage: str, model: AnyModelConfig) -> None:
    """A stage trains models of its kinds."""
    if model.kind not in KINDS[stage]:
        kinds = " or ".join(KINDS[stage])
        raise ValueError(f"stage: {stage} trains a model of kind {kinds}, not {model.kind}")


def check_bundle(model: BundleConfig) -> None:
    """A bundle is of metres, and its process size suits both networks."""
    if model.refiner.depth_space != "metres":
        raise ValueError("model.refiner.depth_space: a bundle is trained in metres")
    multiple = math.lcm(_coarse_multiple(model.coarse), model.refiner.tile_multiple)
    _check_multiple("model.process_size", model.process_size, multiple)


def check_refiner(model: RefinerConfig, data: TrainData) -> None:
    """A refiner by itself is one behind any coarse map, and learns from scenes."""
    if model.coarse.kind != "given":
        raise ValueError(
            "model.coarse.kind: external takes a coarse network's features: train it in a model of kind bundle"
        )
    if not isinstance(data, SceneDataConfig):
        raise ValueError(
            f"data.layout: a refiner behind any coarse map is trained on scenes, not on {data.layout}"
        )


def check_held_out(model: RefinerConfig, data: TrainData, scenes: int) -> None:
    """The scenes on which the best model is chosen go through it whole, and are none that it learns from."""
    if not scenes or not isinstance(data, SceneDataConfig):
        return
    _check_multiple("maps.validation: data.size", (data.size, data.size), model.tile_multiple)
    if data.seed == HELD_OUT_SEED and not data.endless:
        raise ValueError(
            f"maps.validation: its scenes are those of data.seed {HELD_OUT_SEED}; take another seed"
        )


def check_blurred(model: RefinerConfig, blurred: BlurredConfig | None) -> None:
    """What can be made steeper is a choice between two surfaces."""
    if blurred is not None and blurred.steeper != 1 and model.head.kind != "two-surface":
        raise ValueError(f"blurred.steeper: a {model.head.kind} head makes no choice; leave it out")


def check_coarse_input(model: AnyModelConfig, process_size: Size) -> None:
    """A coarse network sees whole patches or strides."""
    _check_multiple("model.input_size", process_size, _coarse_multiple(model))


def check_mixture(stage: str, model: AnyModelConfig) -> None:
    """Where metres are not always known, only `lite` by itself learns."""
    if stage != "coarse" or model.kind != "lite":
        raise ValueError("data.layout: a mixture trains a model of kind lite in stage coarse, nothing else")


def check_labels(transfer: TransferConfig) -> None:
    """Pseudo-labels come from one place."""
    given = [transfer.teacher, transfer.pseudo_labels]
    if sum(value is not None for value in given) != 1:
        raise ValueError("transfer: give one of teacher and pseudo_labels")


def check_tile_of_photographs(sampling: SamplingConfig, data: TrainData) -> None:
    """The size of a data set is known beforehand where it is ours to make."""
    if sampling.image or not isinstance(data, SceneDataConfig | ProceduralData):
        return
    if max(sampling.tile) > data.size:
        tile, side = list(sampling.tile), data.size
        raise ValueError(f"sampling.tile {tile} does not fit into scenes of data.size {side}; lower it")


def check_tile_of_scenes(data: TrainData, model: AnyModelConfig) -> None:
    """A tile fits into its scene, and into the refiner, also at half size."""
    if not isinstance(data, SceneDataConfig):
        return
    if data.tile > data.size:
        raise ValueError(f"data.tile ({data.tile}) is larger than data.size ({data.size})")
    if isinstance(model, RefinerConfig):
        multiple = REDUCED * model.tile_multiple  # the pass at half size needs one too
        if data.tile % multiple:
            raise ValueError(f"data.tile must be a multiple of {multiple}, not {data.tile}")


def _coarse_multiple(coarse: AnyModelConfig) -> int:
    return _MULTIPLES.get(coarse.kind, _COARSE_STRIDE)


def _check_multiple(key: str, size: Size, multiple: int) -> None:
    if any(side % multiple for side in size):
        near = [max(multiple, (side + multiple // 2) // multiple * multiple) for side in size]
        raise ValueError(f"{key} {list(size)}: both sides must be multiples of {multiple}; {near} would do")
