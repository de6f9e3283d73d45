"""Files of weights that others wrote: none of their code is run, and nothing is taken on trust."""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from weights_files import GIGABYTE, peak_memory, refused

from prv2cli.checkpoints.model_file import read_checkpoint, read_config
from prv2cli.checkpoints.safe_read import MAX_HEADER, read_state_dict


class Malicious:
    """Unpickled by Python, it makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.marker),)


def _archive(path: Path, content: object) -> None:
    torch.save(content, path)


def _before_archives(path: Path, content: object) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def _bare_pickle(path: Path, content: object) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


def _tar(path: Path, content: object) -> None:
    """PyTorch's oldest format, under a first name that looks like a pickle's beginning."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT, encoding="latin-1") as archive:
        for name in ("\x80\x02", "storages", "tensors", "pickle"):
            entry = tarfile.TarInfo(name)
            data = pickle.dumps(content, protocol=2)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


@pytest.mark.parametrize("write", [_archive, _before_archives, _bare_pickle, _tar])
@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
def test_no_pickle_is_run(tmp_path: Path, write: Callable[[Path, object], None], name: str) -> None:
    path, marker = tmp_path / name, tmp_path / "marker"
    write(path, {"model_state_dict": {"weight": torch.zeros(2)}, "epoch": Malicious(marker)})
    pickle.loads(pickle.dumps(Malicious(marker)))  # the bait works
    marker.rmdir()
    refused(read_state_dict, path)
    refused(read_checkpoint, path)
    assert not marker.exists()


def test_what_a_pickle_asked_for_is_named(tmp_path: Path) -> None:
    torch.save({"weight": Malicious(tmp_path / "marker")}, tmp_path / "model.pth")
    refused(read_state_dict, tmp_path / "model.pth", "mkdir", "torch.save(model.state_dict()")


def _archive_of(path: Path, names: tuple[str, ...], compression: int) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name in names:
            archive.writestr(name, pickle.dumps({}, protocol=2))


def test_archives_that_are_no_weights(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    _archive_of(path, ("m/data.pkl", "m/constants.pkl", "m/version"), zipfile.ZIP_STORED)
    refused(read_state_dict, path, "TorchScript")
    _archive_of(path, ("m/data.pkl", "m/version"), zipfile.ZIP_DEFLATED)
    refused(read_state_dict, path, "compressed")
    _archive_of(path, ("readme.txt",), zipfile.ZIP_STORED)
    refused(read_state_dict, path, "damaged")


def state() -> dict[str, Tensor]:
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "a.count": torch.tensor(3)}


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors", "weights"])
@pytest.mark.parametrize(
    "write", [_archive, _before_archives, lambda path, tensors: save_file(tensors, path)]
)
def test_the_bytes_decide_not_the_name(tmp_path: Path, write: Callable[..., None], name: str) -> None:
    write(tmp_path / name, state())
    got = read_state_dict(tmp_path / name)
    assert got.keys() == state().keys()
    assert all(torch.equal(tensor, got[key]) for key, tensor in state().items())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"model_state_dict": s, "epoch": 3, "optim_state_dict": {"state": {}}},
        lambda s: {"state_dict": s},
        lambda s: {"model": s},
        lambda s: {"model": {"state_dict": s}},
        lambda s: {f"module.{name}": tensor for name, tensor in s.items()},
        lambda s: {"state_dict": {f"module._orig_mod.{name}": tensor for name, tensor in s.items()}},
        lambda s: {name: torch.nn.Parameter(t, requires_grad=t.is_floating_point()) for name, t in s.items()},
    ],
)
def test_containers_and_wrappers_come_off(tmp_path: Path, wrap: Callable[..., Any]) -> None:
    torch.save(wrap(state()), tmp_path / "weights.pth")
    got = read_state_dict(tmp_path / "weights.pth")
    assert got.keys() == state().keys()
    assert not any(tensor.requires_grad for tensor in got.values())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, ["empty dictionary"]),
        ([torch.zeros(1)], ["list"]),
        (torch.zeros(1), ["Tensor"]),
        ({"a": torch.zeros(1), "epoch": 3}, ["'epoch'", "int"]),
        ({"a": {"b": torch.zeros(1)}}, ["'a'", "dict"]),
        ({3: torch.zeros(1)}, ["3"]),
        ({"a": torch.tensor([1.0, math.nan])}, ["tensor a", "NaN"]),
        ({"a": torch.tensor([1.0, math.inf])}, ["tensor a", "infinite"]),
        ({"a": torch.tensor([1e300], dtype=torch.float64)}, ["tensor a", "infinite"]),
        ({"a": torch.tensor([math.nan], dtype=torch.bfloat16)}, ["tensor a", "NaN"]),
        ({"a": torch.zeros(1, dtype=torch.complex64)}, ["tensor a", "complex64"]),
        ({"a": torch.zeros(1).expand(10**5, 10**5, 10**5)}, ["tensor a", "not stored in full"]),
        ({"a": torch.zeros(2, 2, device="meta")}, ["tensor a", "not stored in full"]),
    ],
)
def test_what_is_no_state_dict(tmp_path: Path, content: object, words: list[str]) -> None:
    torch.save(content, tmp_path / "weights.pth")
    refused(read_state_dict, tmp_path / "weights.pth", *words)


@pytest.mark.parametrize(
    "write", [_archive, _before_archives, lambda path, tensors: save_file(tensors, path)]
)
def test_truncated_files(tmp_path: Path, write: Callable[..., None]) -> None:
    path = tmp_path / "weights.bin"
    write(path, {f"t{i}": torch.zeros(100) for i in range(8)})
    whole = path.read_bytes()
    for length in (1, 7, 9, 40, len(whole) // 3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        refused(read_state_dict, path)
        refused(read_checkpoint, path)


def test_what_is_no_file_of_weights(tmp_path: Path) -> None:
    page, pointer, empty = tmp_path / "page.pth", tmp_path / "pointer.safetensors", tmp_path / "empty.pth"
    page.write_text("<!DOCTYPE html><title>Not found</title>")
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 99\n")
    empty.touch()
    os.mkfifo(tmp_path / "pipe.pth")
    for path, word in (
        (page, "web page"),
        (pointer, "LFS"),
        (empty, "empty"),
        (tmp_path, "folder"),
        (tmp_path / "absent.pth", "no such file"),
        (tmp_path / "pipe.pth", "pipe"),
    ):
        refused(read_state_dict, path, word)
        refused(read_checkpoint, path)


def raw(path: Path, header: object, data: bytes = b"", declared: int | None = None) -> Path:
    """A safetensors file with any header: a string as it is, anything else as JSON."""
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    path.write_bytes(struct.pack("<Q", len(text) if declared is None else declared) + text + data)
    return path


def entry(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    ("header", "size"),
    [
        ({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, 12),  # overlapping
        ({"a": entry([2], 0, 8), "b": entry([2], 0, 8)}, 8),  # the same place twice
        ({"a": entry([2], 0, 8), "b": entry([2], 12, 20)}, 20),  # a hole
        ({"a": entry([2], 0, 8)}, 16),  # bytes of no tensor
        ({"a": entry([2], 0, 8)}, 4),  # beyond the end
        ({"a": entry([10**9], 0, 8)}, 8),  # a shape larger than its bytes
        ({"a": entry([2**40, 2**40], 0, 8)}, 8),  # a product beyond 64 bits
        ({"a": entry([2**62, 4], 0, 0)}, 0),  # one that wraps around to nothing
        ({"a": entry([-2], 0, 8)}, 8),
        ({"a": entry([2], 8, 0)}, 8),
        ({"a": entry([2], 0, 8, "F32X")}, 8),
        ({"a": {"dtype": "F32", "shape": [2]}}, 8),
        ({"a": "weights"}, 8),
        ('{"a": ' + json.dumps(entry([2], 0, 8)) + ', "a": ' + json.dumps(entry([2], 0, 8)) + "}", 8),
        ("{not json", 8),
        ('{"a": ' + "[" * 10**6 + "}", 8),
        ('{"a":"\ud800"}'.encode("utf-8", "surrogatepass").decode("latin-1"), 8),
    ],
)
def test_headers_that_lie(tmp_path: Path, header: object, size: int) -> None:
    path = raw(tmp_path / "model.safetensors", header, bytes(size))
    refused(read_state_dict, path, "not a readable safetensors file")
    refused(read_checkpoint, path, "not a readable safetensors file")
    refused(read_config, path, "not a readable safetensors file")


@pytest.mark.parametrize("declared", [MAX_HEADER, 3 * GIGABYTE, 2**63, 2**64 - 1])
def test_headers_longer_than_the_file(tmp_path: Path, declared: int) -> None:
    path = raw(tmp_path / "model.safetensors", {"a": entry([2], 0, 8)}, bytes(8), declared)
    for read in (read_state_dict, read_checkpoint, read_config):
        refused(read, path, str(declared))


def test_a_header_of_three_gigabytes_is_not_read(tmp_path: Path) -> None:
    """The file is that long, but a hole: all of it would be read as zeros."""
    path = raw(tmp_path / "model.safetensors", "{", declared=3 * GIGABYTE)
    os.truncate(path, 3 * GIGABYTE + 16)
    assert path.stat().st_blocks * 512 < 10**6
    before = peak_memory()
    for read in (read_state_dict, read_checkpoint, read_config):
        refused(read, path, str(3 * GIGABYTE), str(MAX_HEADER))
    assert peak_memory() - before < 10**8
