"""Reading weights that others wrote, without running any of their code.

    bytes -> what kind of file -> its own checks -> dict of tensors -> containers and prefixes off -> values checked

A `.pth` is a pickle, a program. Only `torch.load(weights_only=True)` reads it, which knows no calls but those that
make tensors, and the archives that older versions of torch would still have run are refused before. What a header
claims is compared with the file's size before anything is read or reserved. Every fault is one CheckpointError.
"""

from __future__ import annotations

import json
import re
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from prv2cli.errors import CheckpointError
from prv2cli.files.text import first_line

Kind = Literal["safetensors", "zip", "pickle"]

MAX_HEADER = 100_000_000  # bytes: the format's own limit
FLOATING = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)

_LENGTH = 8  # bytes, little endian, before the header
_ZIP = b"PK\x03\x04"
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_CONTAINERS = ("model_state_dict", "state_dict", "model")
_WRAPPERS = ("module.", "_orig_mod.")  # of DistributedDataParallel and torch.compile


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file, on the CPU; large files are mapped rather than read where their format allows.

    What kind of file it is, its bytes say, not its name: PyTorch's archive or its older plain pickle, or safetensors.
    Containers (`model_state_dict`, `state_dict`, `model`) are opened, the prefixes of wrappers taken off.

    Raises:
        CheckpointError: no such file, damaged, a pickle that asks to run code, not a flat dictionary of tensors, or
            values that are not finite.
    """
    return read_with_settings(path, "")[0]


def read_with_settings(path: Path, key: str) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """read_state_dict, and the dictionary that a PyTorch file holds under `key` beside it; None where it has none.

    Raises CheckpointError.
    """
    kind = _kind(path)
    if kind == "safetensors":
        with open_safetensors(path) as file:
            found: Any = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    else:
        found = _unpickle(path, kind)
    state = _without_wrappers(_flat(path, found))
    for name, tensor in state.items():
        check_values(path, name, tensor, (*FLOATING, *INTEGERS))
    beside = found.get(key) if isinstance(found, dict) else None
    return state, beside if isinstance(beside, dict) else None


@contextmanager
def open_safetensors(path: Path) -> Iterator[Any]:
    """A safetensors file whose header fits it, opened; whatever fails while it is read is a CheckpointError."""
    check_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError, ValueError, RuntimeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({first_line(error)})") from error


def check_header(path: Path) -> None:
    """Compare the length that a safetensors header declares with the file, and read it once for doubled names.

    Offsets, shapes and types are checked by safetensors itself. Raises CheckpointError.
    """
    start, size = _start(path)
    if len(start) < _LENGTH:
        raise CheckpointError(f"{path}: not a readable safetensors file ({size} bytes are too few)")
    declared = int.from_bytes(start[:_LENGTH], "little")
    if declared > min(size - _LENGTH, MAX_HEADER):
        raise CheckpointError(
            f"{path}: not a readable safetensors file (its header claims {declared} bytes, the file has {size}, "
            f"the format allows {MAX_HEADER})"
        )
    try:
        with path.open("rb") as file:
            file.seek(_LENGTH)
            header = json.loads(file.read(declared), object_pairs_hook=_unique)
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({first_line(error)})") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: not a readable safetensors file (its header is no dictionary)")


def check_values(
    path: Path | str, name: str, tensor: Tensor, dtypes: tuple[torch.dtype, ...] = FLOATING
) -> None:
    """Refuse a tensor that is of another type, larger than what is stored of it, or not finite as float32."""
    # A stored tensor may repeat few numbers by strides of zero; copied or compared it would fill the memory.
    dense = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    if not dense or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise CheckpointError(f"{path}: tensor {name} is not stored in full")
    if tensor.dtype not in dtypes:
        raise CheckpointError(
            f"{path}: tensor {name} is of type {str(tensor.dtype).removeprefix('torch.')}, which is not expected there"
        )
    if tensor.dtype in FLOATING and not torch.isfinite(tensor.float()).all():
        raise CheckpointError(f"{path}: tensor {name} holds NaN or infinite values; the file is damaged")


def _start(path: Path) -> tuple[bytes, int]:
    """The first bytes of a file and its size."""
    try:
        if path.is_dir():
            raise CheckpointError(f"{path}: a folder, not a model file; name the file in it")
        if path.exists() and not path.is_file():
            raise CheckpointError(f"{path}: a device or pipe, not a model file")
        with path.open("rb") as file:
            return file.read(_LENGTH + 1), path.stat().st_size
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        raise CheckpointError(f"{path}: cannot be read ({first_line(error)})") from error


def _kind(path: Path) -> Kind:
    start, size = _start(path)
    if not start:
        raise CheckpointError(f"{path}: the file is empty")
    pickled = _PICKLE.match(start) is not None
    if start[_LENGTH:] == b"{" and not (pickled and int.from_bytes(start[:_LENGTH], "little") > size):
        return "safetensors"
    if start.startswith(_ZIP):
        return "zip"
    if pickled:
        return "pickle"
    raise CheckpointError(
        f"{path}: neither safetensors nor a PyTorch file (it begins with {start!r}); "
        "a web page or a Git LFS pointer saved in its place?"
    )


def _unpickle(path: Path, kind: Kind) -> Any:
    """What a PyTorch file holds, read by the unpickler that runs no code."""
    try:
        if kind == "zip":
            _check_archive(path)
        # Older versions of torch hand these two to readers that do run code, whatever weights_only says.
        elif tarfile.is_tarfile(path):
            raise CheckpointError(f"{path}: a tar archive, a format of PyTorch that may hold code; not read")
        if kind == "zip" and path.suffix != ".safetensors":  # torch goes by the name before it looks inside
            return torch.load(str(path), map_location="cpu", weights_only=True, mmap=True)
        with path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # a broken pickle can fail in any way
        raise CheckpointError(_explain(path, error)) from error


def _check_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if any(entry.filename.endswith("/constants.pkl") for entry in entries):
        raise CheckpointError(f"{path}: a TorchScript program, not weights; save its state dict instead")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):  # it could unpack to any size
        raise CheckpointError(f"{path}: a compressed archive; PyTorch writes its files uncompressed")


def _explain(path: Path, error: Exception) -> str:
    text = str(error)
    wanted = re.search(r"GLOBAL ([\w.]+)", text)
    if wanted:
        return (
            f"{path}: this pickle asks for {wanted[1]}, which is code; prv2 runs none. Where you trust the file, "
            "save its state dict alone: torch.save(model.state_dict(), ...)"
        )
    return f"{path}: a damaged PyTorch file ({type(error).__name__}: {first_line(error)[:200]})"


def _flat(path: Path, found: Any) -> dict[str, Tensor]:
    """The state dict inside of what was read."""
    for _ in range(2):  # a container in a container is as deep as anyone nests them
        inner = next((found[key] for key in _CONTAINERS if _holds_dict(found, key)), None)
        if inner is None:
            break
        found = inner
    if not isinstance(found, dict) or not found:
        raise CheckpointError(f"{path}: holds no state dict, but {_in_words(found)}")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{path}: not a state dict: {name!r} is {_in_words(value)}, not a tensor")
    return {name: value.detach() for name, value in found.items()}


def _holds_dict(found: Any, key: str) -> bool:
    return isinstance(found, dict) and isinstance(found.get(key), dict)


def _in_words(value: Any) -> str:
    return "an empty dictionary" if value == {} else f"a {type(value).__name__}"


def _without_wrappers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _WRAPPERS:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice in its header")
    return found
