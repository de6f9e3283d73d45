"""A depth network in transformers' layout, from a local folder: settings checked, safetensors alone, nothing left over.

Nothing else is read, no code of the folder is run, and nothing is downloaded.
"""

from __future__ import annotations

import importlib
import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prv2cli.checkpoints.model_file import at_most
from prv2cli.checkpoints.safe_read import FLOATING, INTEGERS, check_values, open_safetensors
from prv2cli.errors import CheckpointError
from prv2cli.extras import import_transformers
from prv2cli.files.text import first_line
from prv2cli.model.coarse.zoedepth import asks_elsewhere
from prv2cli.model.torchvision_ops import make_torchvision_importable

_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
# The first fusion block has no previous level to add, so this unit is never run. Some publishers left it out.
_UNUSED = re.compile(r"(.*\.)?fusion_stage\.(layers|intermediate)\.0\.residual_layer1\..*")
# Stored by earlier versions of transformers: constants that the network makes itself, and a layer for classification.
_SURPLUS = re.compile(
    r"(.*\.)?(relative_position_index|k_idx|k_minus_1|position_ids|num_batches_tracked)|dpt\.pooler\..*"
)


def load_pretrained(folder: Path, name: str) -> Any:
    """The network alone, float32, on the CPU, in eval mode, without gradients. Arguments and errors as above."""
    transformers = import_transformers()
    make_torchvision_importable()
    _check_settings(folder, name)
    paths = _weight_files(folder, name)
    with _quiet(transformers), at_most(sum(map(_numbers_in, paths))):
        try:
            model, info = transformers.AutoModelForDepthEstimation.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # _check_names refuses them, by name
            )
        except Exception as error:  # it reports faults of the files in many ways
            raise CheckpointError(f"{name}: transformers cannot load it: {_summary(error)}") from error
    _check_names(info, name)
    model = model.float().eval().requires_grad_(False)
    for key, tensor in model.state_dict().items():
        check_values(name, key, tensor, (*FLOATING, *INTEGERS))
    return model


def _numbers_in(path: Path) -> int:
    """How many numbers a file of weights holds, by its header. Raises CheckpointError."""
    with open_safetensors(path) as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def _summary(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _check_settings(folder: Path, name: str) -> None:
    """Refuse what is no depth network, and what would make transformers ask the Hub for another repository."""
    settings = read_settings(folder, name)
    model_type = settings.get("model_type")
    known = _known_types()
    if model_type not in known:
        raise CheckpointError(
            f"{name}: transformers has no depth network of type {model_type!r}; it has " + ", ".join(known)
        )
    elsewhere = asks_elsewhere(settings)
    if elsewhere is not None:
        raise CheckpointError(
            f"{name}: its config.json leaves the backbone's settings to another repository "
            f"({elsewhere!r}); it needs a backbone_config of its own"
        )


def _known_types() -> list[str]:
    auto = importlib.import_module("transformers.models.auto.modeling_auto")
    return sorted(auto.MODEL_FOR_DEPTH_ESTIMATION_MAPPING_NAMES)


def read_settings(folder: Path, name: str) -> dict[str, Any]:
    """The config.json of a folder. Raises CheckpointError."""
    return _read_json(folder / "config.json", name)


def _read_json(path: Path, name: str) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{name}: {path.name} cannot be read ({first_line(error)})") from error
    if not isinstance(settings, dict):
        raise CheckpointError(f"{name}: {path.name} holds a {type(settings).__name__}, not settings")
    return settings


def _weight_files(folder: Path, name: str) -> list[Path]:
    """model.safetensors, or the parts that its index names. Raises CheckpointError where there are none."""
    if (folder / _WEIGHTS).is_file():
        return [folder / _WEIGHTS]
    if not (folder / _INDEX).is_file():
        pickles = sorted(path.name for path in folder.glob("*.bin"))
        found = f"only {pickles[0]}, a pickle, which could run code" if pickles else "no weights"
        raise CheckpointError(f"{name}: holds {found}; prv2 reads {_WEIGHTS} alone")
    parts = _read_json(folder / _INDEX, name).get("weight_map")
    if not isinstance(parts, dict) or not parts or not all(isinstance(part, str) for part in parts.values()):
        raise CheckpointError(f"{name}: {_INDEX} names no files")
    paths = [folder / part for part in sorted(set(parts.values()))]
    for path in paths:
        # transformers would read any kind of file from anywhere.
        if path.parent != folder or path.suffix != ".safetensors" or not path.is_file():
            raise CheckpointError(
                f"{name}: {_INDEX} names {path.name}, which is not in the folder as safetensors"
            )
    return paths


def _check_names(info: dict[str, Any], name: str) -> None:
    missing = sorted(key for key in info["missing_keys"] if not _UNUSED.fullmatch(key))
    surplus = sorted(key for key in info["unexpected_keys"] if not _SURPLUS.fullmatch(key))
    misshapen = sorted(str(entry[0]) for entry in info["mismatched_keys"])
    if missing or surplus or misshapen:
        raise CheckpointError(
            f"{name}: the tensors do not fit its config.json: {len(missing)} missing {missing[:3]}, "
            f"{len(surplus)} surplus {surplus[:3]}, {len(misshapen)} of another shape {misshapen[:3]}"
        )


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without transformers' progress bars and load report: faults become errors of ours."""
    log = transformers.utils.logging
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    if bars:
        log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()
