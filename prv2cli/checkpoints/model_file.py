"""Model files: safetensors with their configuration and provenance in the header. No network access here.

    read header -> validate configuration -> check values -> build the model -> check names, shapes -> load

A checkpoint explains itself: nothing but the file is needed to build the model. No pickle is ever read, and a header
cannot make the machine reserve more memory than the file's own tensors justify.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from prv2cli.checkpoints.safe_read import check_values, open_safetensors
from prv2cli.errors import CheckpointError, ConfigError
from prv2cli.files.atomic import atomic_write
from prv2cli.files.hashing import hash_file
from prv2cli.files.text import first_line
from prv2cli.model.build import build_model
from prv2cli.model.config import AnyModelConfig, BundleConfig, RefinerConfig, parse_model_config

FORMAT = 1
BLURRED = "blurred."  # before the names of a refiner's second set of tensors
_HEADER_KEY = "prv2"
# Numbers that building a model may make beyond those in its file: timm makes whole networks, some of them twice, and
# then drops the stages that are not asked for.
_SPARE_PARAMETER = 2**26
_SPARE_MODEL = 2**29


@dataclass(frozen=True)
class Checkpoint:
    """A model file, read and checked. `sha256` is of the file's bytes, `name` what messages call it.

    blurred: of a refiner, a second set of the same tensors, for maps that were blurred and nothing else; most files
        have none.
    """

    config: AnyModelConfig
    tensors: dict[str, Tensor]
    provenance: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""
    name: str = "the checkpoint"
    blurred: dict[str, Tensor] = field(default_factory=dict)

    @property
    def stored(self) -> dict[str, Tensor]:
        """All tensors by their names in the file."""
        return self.tensors | {BLURRED + name: tensor for name, tensor in self.blurred.items()}

    def build(self, like: nn.Module | None = None) -> nn.Module:
        """The model in eval mode, loaded strictly. Raises CheckpointError when tensors do not fit.

        like: a model of the same configuration that is built already: its copy is made in no time.
        """
        stored = sum(tensor.numel() for tensor in self.tensors.values())
        try:
            with at_most(stored):
                model = build_model(without_downloads(self.config)) if like is None else copy.deepcopy(like)
            load_strictly(model, self.tensors)
        except (CheckpointError, ConfigError) as error:  # the configuration is the file's, not the caller's
            raise CheckpointError(f"{self.name}: {error}") from error
        except (RuntimeError, TypeError, ValueError) as error:  # torch's words for sizes that cannot be
            raise CheckpointError(
                f"{self.name}: its configuration builds no model ({first_line(error)})"
            ) from error
        return model.eval()

    def for_blurred(self) -> Checkpoint | None:
        """The refiner for blurred maps, as a checkpoint of its own; None where the file has none."""
        if not self.blurred:
            return None
        return replace(self, tensors=self.blurred, blurred={}, name=f"{self.name} ({BLURRED}*)")

    def part(self, name: Literal["coarse", "refiner"]) -> Checkpoint:
        """The coarse network or the refiner of a bundle, as a checkpoint of its own; tensors are shared.

        Raises CheckpointError when this is no bundle.
        """
        if not isinstance(self.config, BundleConfig):
            raise CheckpointError(
                f"{self.name}: a model of kind {self.config.kind} is no bundle and has no {name}"
            )
        prefix = f"{name}."
        tensors = _without_prefix(self.tensors, prefix)
        config = self.config.coarse if name == "coarse" else self.config.refiner
        return Checkpoint(config, tensors, self.provenance, self.sha256, self.name)


def save_checkpoint(
    path: Path, model: nn.Module, config: AnyModelConfig, provenance: dict[str, Any], *, half: bool = False
) -> None:
    """Write a model as one safetensors file, atomically. `half`: as `write_tensors`."""
    write_tensors(path, model.state_dict(), config, provenance, half=half)


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    config: AnyModelConfig,
    provenance: dict[str, Any],
    *,
    half: bool = False,
) -> None:
    """Write one safetensors file, atomically, without BatchNorm's integer counters: eval never reads them.

    half: matrices and kernels as float16, which is half the size; what has one axis (biases, BatchNorm's statistics)
        stays float32, as its range may be wider.

    Raises OutputError when the place cannot be written to; the old file is then as it was.
    """
    stored: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            dtype = torch.float16 if half and tensor.dim() > 1 else torch.float32
            plain = tensor.detach().to(dtype).contiguous().cpu()
            # Safetensors refuses two names for one memory, as where weights are tied.
            stored[name] = plain.clone() if plain.data_ptr() in places else plain
            places.add(plain.data_ptr())
    header = {"format": FORMAT, "config": config.model_dump(mode="json"), "provenance": provenance}
    with atomic_write(path) as file:
        file.write(save(stored, {_HEADER_KEY: json.dumps(header)}))


def read_checkpoint(path: Path, check: Callable[[AnyModelConfig], object] | None = None) -> Checkpoint:
    """Read and check a model file of ours. The tensors are mapped from the file, not read into memory.

    Args:
        check: raises for a configuration that the caller cannot use, before any tensor is read.

    Raises:
        CheckpointError: not safetensors, no prv2 header, a bad configuration, or values that are not finite.
    """
    with open_safetensors(path) as file:
        header = _parse_header(path, file.metadata() or {})
        config = _parse_config(path, header)
        if check is not None:
            check(config)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for name, tensor in tensors.items():
        check_values(path, name, tensor)
    blurred = _without_prefix(tensors, BLURRED) if isinstance(config, RefinerConfig) else {}
    own = {name: tensor for name, tensor in tensors.items() if not (blurred and name.startswith(BLURRED))}
    return Checkpoint(config, own, header.get("provenance", {}), hash_file(path), str(path), blurred)


def _without_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def read_config(path: Path) -> AnyModelConfig:
    """The configuration in the header of a model file; no tensor is read. Raises CheckpointError."""
    with open_safetensors(path) as file:
        metadata = file.metadata() or {}
    return _parse_config(path, _parse_header(path, metadata))


def _parse_config(path: Path, header: dict[str, Any]) -> AnyModelConfig:
    try:
        return parse_model_config(header["config"], f"{path}: configuration in the header")
    except ConfigError as error:  # the file is wrong, not the call
        raise CheckpointError(str(error)) from error


def _parse_header(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    if _HEADER_KEY not in metadata:
        raise CheckpointError(
            f"{path}: a safetensors file, but not a prv2 model (no '{_HEADER_KEY}' in its header)"
        )
    try:
        header = json.loads(metadata[_HEADER_KEY])
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: the prv2 header is not JSON ({error})") from error
    if not isinstance(header, dict) or "config" not in header:
        raise CheckpointError(f"{path}: the prv2 header has no configuration")
    if not isinstance(header.get("provenance", {}), dict):
        raise CheckpointError(f"{path}: the provenance in the prv2 header is no dictionary")
    if header.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: model format {header.get('format')!r}; this version of prv2 reads format {FORMAT}. "
            "Update with: pip install -U prv2cli"
        )
    return header


def load_strictly(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load every tensor into the model; missing, surplus or misshapen ones are one clear error."""
    expected = {k: v for k, v in model.state_dict().items() if v.is_floating_point()}
    missing, surplus = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or surplus:
        raise CheckpointError(
            f"the tensors do not fit the model: {len(missing)} missing {missing[:3]}, "
            f"{len(surplus)} surplus {surplus[:3]}"
        )
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise CheckpointError(
                f"tensor {name} has shape {tuple(tensor.shape)}, "
                f"the model needs {tuple(expected[name].shape)}"
            )
    # BatchNorm's integer counters are not stored, the one reason for strict=False; names were checked above.
    model.load_state_dict(tensors, strict=False)


@contextmanager
def at_most(stored: int) -> Iterator[None]:
    """While a model is built in this thread, refuse more parameters than a file of so many numbers can be for.

    A parameter is registered when its memory is reserved, but before it is written to, which is what would take it.
    """
    thread, spare = threading.get_ident(), 4 * stored + _SPARE_MODEL

    def count(_module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal spare
        if parameter is None or threading.get_ident() != thread:
            return
        spare -= parameter.numel()
        if parameter.numel() > stored + _SPARE_PARAMETER or spare < 0:
            raise CheckpointError(
                f"the configuration asks for a far larger model than the {stored} numbers in the file "
                f"(at {name} of shape {tuple(parameter.shape)})"
            )

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def without_downloads(config: AnyModelConfig) -> AnyModelConfig:
    """The configuration with `pretrained` off wherever it stands: the weights are in the file."""
    if isinstance(config, BundleConfig):
        return config.model_copy(update={"refiner": without_downloads(config.refiner)})
    if isinstance(config, RefinerConfig):
        return config.model_copy(update={"encoder": config.encoder.model_copy(update={"pretrained": False})})
    return config
