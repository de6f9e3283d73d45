"""Files as the authors of PatchRefiner V2 and of coarse networks publish them -> one model file of ours.

    read_state_dict -> student or teacher -> what is it? -> its converter -> write_tensors
                                             ├── PatchRefinerPlus with its coarse branch:   a bundle
                                             ├── PatchRefinerPlus, refiner only:            a refiner
                                             └── Depth Anything V2 (metric) or 3 (monocular),
                                                 MoGe-2, ZoeDepth:                          a coarse network

The coarse branch of a PatchRefiner is a Depth Anything V2 or a ZoeDepth. What the shapes tell is read from them; what
they do not tell has to be said (the range of the coarse network), or is the authors' choice unless said otherwise
(process size, gated guidance).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from prv2cli.checkpoints.authors.da3 import convert_da3, has_da3_names, metres_of_file
from prv2cli.checkpoints.authors.dav2 import convert_dav2
from prv2cli.checkpoints.authors.moge2 import convert_moge2, is_moge2
from prv2cli.checkpoints.authors.patchrefiner import convert_patchrefiner, split_networks
from prv2cli.checkpoints.authors.rename import Tensors
from prv2cli.checkpoints.authors.zoedepth import ZOEDEPTH, bounded_depth, channels, convert_zoedepth
from prv2cli.checkpoints.model_file import write_tensors
from prv2cli.checkpoints.safe_read import read_with_settings
from prv2cli.choices import Guidance, Part
from prv2cli.errors import CheckpointError, UsageError
from prv2cli.files.hashing import hash_file
from prv2cli.model.coarse.dinov2 import PATCH
from prv2cli.model.coarse.dpt import SIZES
from prv2cli.model.coarse.zoedepth import SIZE_MULTIPLE
from prv2cli.model.config import (
    AnyModelConfig,
    BundleConfig,
    Da3Config,
    Dav2Config,
    Moge2Config,
    RefinerConfig,
    ZoeDepthConfig,
)
from prv2cli.version import __version__

Size = tuple[int, int]  # height, width

# At which a bundle's networks run, and the multiple that its coarse network needs (PRV2 section 4, docs/method.md 2.5).
PROCESS_SIZES: dict[str, Size] = {"dav2": (448, 448), "zoedepth": (384, 512)}
_MULTIPLES = {"dav2": PATCH, "zoedepth": SIZE_MULTIPLE}
# How their semi-supervised trainer names its two models; what it saves at the end is the student without a prefix.
_PARTS: dict[Part, tuple[str, ...]] = {
    "student": ("student_model.", "student."),
    "teacher": ("teacher_model.", "teacher."),
}
_PATCHREFINER = ("coarse_branch.", "refiner_fine_branch.", "refiner_fusion_model.")
_DAV2 = ("pretrained.", "depth_head.")


@dataclass(frozen=True)
class Conversion:
    """What was made of a file.

    Attributes:
        kind: of the model written: bundle, refiner or coarse.
        config: of the model written. parameters: numbers stored.
        notes: what a user has to know, in whole sentences.
    """

    kind: Literal["bundle", "refiner", "coarse"]
    config: AnyModelConfig
    parameters: int
    notes: list[str] = field(default_factory=list)


def convert_file(
    source: Path,
    target: Path,
    *,
    max_depth: float | None = None,
    process_size: Size | None = None,
    guidance: Guidance = "gated",
    part: Part | None = None,
    refiner_only: bool = False,
) -> Conversion:
    """Convert one file; the target is written whole or not at all.

    Args:
        source: PyTorch or safetensors; no code in it is run.
        max_depth: metres, the range of a Depth Anything V2: 20 (indoor) or 80 (outdoor). No file says it. Of a
            ZoeDepth only where its bins have one (zoedepth.py). The others have none.
        process_size: (height, width) at which a bundle's networks run; None: as the authors do (PROCESS_SIZES).
        guidance: "fused" for the authors' ablation without the gate: it has the same shapes.
        part: which model of a file that holds a student and a teacher; None: the student.
        refiner_only: leave the coarse branch out. Such a refiner needs the features of that very network.

    Raises:
        CheckpointError: not one of these models, or damaged. UsageError: a choice is missing or does not fit.
        MissingExtraError: a ZoeDepth, and no transformers. OutputError: the target cannot be written.
    """
    whole, settings = read_with_settings(source, "model_config")
    state, notes = _choose_part(source, whole, part)
    try:
        found = _convert_other(source, state, settings, max_depth, process_size, refiner_only) or _convert(
            state, max_depth, process_size, guidance, refiner_only
        )
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from error
    kind, config, tensors, more = found
    provenance = {
        "software": f"prv2cli {__version__}",
        "converted_from": source.name,
        "source_sha256": hash_file(source),
        "notes": notes + more,
    }
    write_tensors(target, tensors, config, provenance)
    parameters = sum(tensor.numel() for tensor in tensors.values())
    return Conversion(kind, config, parameters, notes + more)


_Found = tuple[Literal["bundle", "refiner", "coarse"], AnyModelConfig, Tensors, list[str]]


def _convert_other(
    source: Path,
    state: Tensors,
    settings: dict[str, Any] | None,
    max_depth: float | None,
    process_size: Size | None,
    refiner_only: bool,
) -> _Found | None:
    """A network that says all of itself: MoGe-2, or Depth Anything 3 with its config.json beside it."""
    if not is_moge2(state) and not has_da3_names(state):
        return None
    for flag, given in (
        ("--max-depth", max_depth is not None),
        ("--process-size", process_size is not None),
        ("--refiner-only", refiner_only),
    ):
        if given:
            raise UsageError(f"{flag} has no meaning for MoGe-2 and Depth Anything 3")
    if is_moge2(state):
        return "coarse", *convert_moge2(state, settings), []
    return "coarse", *convert_da3(state, metric=metres_of_file(source)), []


def _convert(
    state: Tensors,
    max_depth: float | None,
    process_size: Size | None,
    guidance: Guidance,
    refiner_only: bool,
) -> _Found:
    if any(name.startswith(_PATCHREFINER) for name in state):
        return _convert_patchrefiner(state, max_depth, process_size, guidance, refiner_only)
    if refiner_only or process_size is not None:
        flag = "--refiner-only" if refiner_only else "--process-size"
        raise UsageError(f"no PatchRefiner V2, so {flag} has no meaning")
    if any(name.startswith((*ZOEDEPTH, *_DAV2)) for name in state):
        config, tensors = _convert_coarse(state, max_depth)
        return "coarse", config, tensors, []
    raise CheckpointError(
        "neither a PatchRefiner V2 nor MoGe-2, Depth Anything V2 or 3, or ZoeDepth under their authors' names; "
        "it begins with " + ", ".join(list(state)[:3])
    )


def _convert_coarse(state: Tensors, max_depth: float | None) -> tuple[Dav2Config | ZoeDepthConfig, Tensors]:
    if any(name.startswith(ZOEDEPTH) for name in state):
        return convert_zoedepth(state, max_depth=_checked_depth(max_depth))
    return convert_dav2(state, max_depth=_known_depth(max_depth))


def _convert_patchrefiner(
    state: Tensors,
    max_depth: float | None,
    process_size: Size | None,
    guidance: Guidance,
    refiner_only: bool,
) -> _Found:
    coarse = split_networks(state).coarse
    config, tensors = convert_patchrefiner(state, guidance=guidance)
    if refiner_only:
        return "refiner", config, tensors, [_left_out(coarse)]
    if not coarse:
        raise UsageError(
            "no coarse branch in it, as after Noisy Pretraining; --refiner-only writes the refiner alone"
        )
    try:
        coarse_config, coarse_tensors = _convert_coarse(coarse, max_depth)
    except CheckpointError as error:
        raise CheckpointError(
            f"its coarse branch: {error}; --refiner-only writes the refiner without it"
        ) from error
    _check_features(config, coarse_config)
    size = _check_process_size(process_size, config, coarse_config.kind)
    if isinstance(coarse_config, ZoeDepthConfig):
        coarse_config = coarse_config.model_copy(update={"input_size": size})
    bundle = BundleConfig(coarse=coarse_config, refiner=config, process_size=size)
    joined = {f"coarse.{name}": tensor for name, tensor in coarse_tensors.items()}
    joined |= {f"refiner.{name}": tensor for name, tensor in tensors.items()}
    return "bundle", bundle, joined, []


def _choose_part(source: Path, state: Mapping[str, Tensor], wanted: Part | None) -> tuple[Tensors, list[str]]:
    """One model of the file, its prefix off, and what there is to say of the choice."""
    parts: dict[Part, Tensors] = {}
    for part, prefixes in _PARTS.items():
        for prefix in prefixes:
            named = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            if named:
                parts[part] = named
    if not parts:
        if wanted is not None:
            raise UsageError(f"--part {wanted}: {source} holds one model only; leave it out")
        return _without_prefix(state, "model."), []
    if sum(map(len, parts.values())) != len(state):
        alien = next(k for k in state if not k.startswith(tuple(sum(_PARTS.values(), ()))))
        raise CheckpointError(f"{source}: beside {' and '.join(parts)} it holds others, e.g. {alien}")
    chosen: Part = wanted or ("student" if "student" in parts else "teacher")
    if chosen not in parts:
        raise UsageError(f"--part {chosen}: {source} holds a {next(iter(parts))} only")
    notes = [f"The file holds student and teacher; this is the {chosen}."] if len(parts) == 2 else []
    return parts[chosen], notes


def _without_prefix(state: Mapping[str, Tensor], prefix: str) -> Tensors:
    """The state dict with a prefix off that all of its names have."""
    if not all(name.startswith(prefix) for name in state):
        return dict(state)
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}


def _known_depth(max_depth: float | None) -> float:
    if (checked := _checked_depth(max_depth)) is None:
        raise UsageError(
            "its Depth Anything V2 does not say its range; add --max-depth: 20 where it was trained indoors "
            "(Hypersim), 80 outdoors (Virtual KITTI) and in all of PatchRefiner V2's settings"
        )
    return checked


def _checked_depth(max_depth: float | None) -> float | None:
    if max_depth is not None and not (math.isfinite(max_depth) and max_depth > 0):
        raise UsageError(f"--max-depth {max_depth:g}: it must be a number of metres above 0")
    return max_depth


def _check_process_size(size: Size | None, config: RefinerConfig, coarse: str) -> Size:
    multiple = math.lcm(_MULTIPLES[coarse], config.tile_multiple)
    size = size or PROCESS_SIZES[coarse]
    if any(side <= 0 or side % multiple for side in size):
        raise UsageError(f"--process-size {size[0]}x{size[1]}: both sides must be multiples of {multiple}")
    return size


def _check_features(config: RefinerConfig, coarse: Dav2Config | ZoeDepthConfig) -> None:
    if isinstance(coarse, ZoeDepthConfig):
        name, gives = "ZoeDepth", channels(coarse)
    else:
        width = SIZES[coarse.encoder].width
        name, gives = f"Depth Anything V2 ({coarse.encoder})", (width // 2, *(width for _ in range(5)))
    if config.coarse.channels != gives:
        raise CheckpointError(
            f"its refiner takes coarse features of {config.coarse.channels} channels, its {name} gives {gives}"
        )


def _left_out(coarse: Tensors) -> str:
    what = (
        f"Its coarse branch ({len(coarse)} tensors) was left out." if coarse else "It has no coarse branch."
    )
    return f"{what} This refiner needs the features of the coarse network it was trained with."


def describe(conversion: Conversion) -> dict[str, object]:
    """The facts of a conversion, for people and for JSON."""
    config = conversion.config
    facts: dict[str, object] = {"kind": conversion.kind, "parameters": conversion.parameters}
    refiner, coarse = (
        (config.refiner, config.coarse) if isinstance(config, BundleConfig) else (config, config)
    )
    if isinstance(refiner, RefinerConfig):
        facts |= {"encoder": refiner.encoder.name, "guidance": refiner.c2f.guidance}
    if isinstance(coarse, Dav2Config):
        facts |= {"coarse": f"{coarse.kind} {coarse.encoder}", "max_depth": coarse.max_depth}
    if isinstance(coarse, ZoeDepthConfig):
        facts |= {"coarse": coarse.kind, "max_depth": bounded_depth(coarse)}
    if isinstance(coarse, Moge2Config | Da3Config):
        facts |= {"coarse": f"{coarse.kind} {coarse.encoder}", "max_depth": None}
    if isinstance(config, BundleConfig):
        facts["process_size"] = list(config.process_size)
    return facts | {"notes": conversion.notes}
