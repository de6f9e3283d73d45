"""Which device to use, at which precision, and how much memory it has to spare.

Torch is imported where a device is asked for: that a name is none can be told without it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from prv2cli.errors import DeviceError, UsageError
from prv2cli.machine.memory import available_host_memory

if TYPE_CHECKING:
    import torch

PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:[0-9]+)?")


def check_names(device: str, precision: str) -> None:
    """Refuse what can be no device or no precision on any machine, without torch. Raises UsageError."""
    if not _DEVICE.fullmatch(device):
        raise UsageError(f"--device {device}: use auto, cpu, cuda, cuda:N or mps")
    if precision != "auto" and precision not in PRECISIONS:
        raise UsageError(f"--precision {precision}: use auto, fp32, bf16 or fp16")


def choose_device(name: str) -> torch.device:
    """`auto` is cuda, then mps, then cpu. A named device must exist.

    Raises:
        UsageError: not a device name. DeviceError: no such device here.
    """
    import torch

    check_names(name, "auto")
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        usable = torch.backends.mps.is_available() and _metal_samples_maps()
        return torch.device("mps" if usable else "cpu")
    kind, _, index = name.partition(":")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(index or 0) >= count:  # not torch.device(name).index: its eight bits make -25 of 999
            raise DeviceError(f"--device {name}: {count} CUDA device(s) found here; use --device auto or cpu")
    elif kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("--device mps: this machine has no Metal device; use --device auto or cpu")
    elif kind == "mps" and not _metal_samples_maps():
        raise DeviceError(
            "--device mps: this PyTorch cannot sample maps up to their border on Metal; install a newer one, "
            "or use --device auto or cpu"
        )
    return torch.device(name)


def _metal_samples_maps() -> bool:
    """Whether Metal has what every tile is cut with: not in all versions of torch that prv2 runs with."""
    import torch
    from torch.nn import functional as F

    try:
        values = torch.zeros(1, 1, 2, 2, device="mps")
        F.grid_sample(
            values, torch.zeros(1, 1, 1, 2, device="mps"), padding_mode="border", align_corners=False
        )
    except RuntimeError:  # NotImplementedError is one
        return False
    return True


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """`auto` is fp16 on CUDA and bf16 on CPUs with matrix units for it, fp32 elsewhere."""
    import torch

    check_names("auto", name)
    if name == "fp16" and device.type == "cpu":
        raise UsageError("--precision fp16: not on the CPU; use fp32, bf16 or auto")
    if name != "auto":
        dtype: torch.dtype = getattr(torch, PRECISIONS[name])
        return dtype
    if device.type == "cuda":
        return torch.float16
    if device.type == "cpu" and _cpu_multiplies_bf16():
        return torch.bfloat16
    return torch.float32


def _cpu_multiplies_bf16() -> bool:
    """Whether the CPU has matrix units for bf16 (Intel AMX); without them bf16 is slower than fp32."""
    import torch

    probe = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(probe and probe())


def free_memory(device: torch.device) -> int:
    """Bytes that may be taken on the device now; on the CPU, of the machine's available memory."""
    import torch

    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept  # torch keeps what it has freed, for itself
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    return available_host_memory()
