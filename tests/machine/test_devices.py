"""Which device `auto` is, and what is said of one that will not do."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from prv2cli.errors import DeviceError
from prv2cli.machine import devices
from prv2cli.machine.devices import choose_device


@pytest.fixture
def metal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with Metal, and a torch that cannot use it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    real = torch.zeros

    def zeros(*size: int, device: Any = None, **options: Any) -> torch.Tensor:
        if device == "mps":
            raise NotImplementedError("MPS: Unsupported Border padding mode")
        return real(*size, device=device, **options)

    monkeypatch.setattr(torch, "zeros", zeros)


@pytest.mark.usefixtures("metal")
def test_auto_leaves_metal_alone_where_torch_cannot_sample_there() -> None:
    assert choose_device("auto").type == "cpu"
    with pytest.raises(DeviceError, match=r"--device mps: .* newer"):
        choose_device("mps")


@pytest.mark.parametrize(
    ("cuda", "mps", "best"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_is_the_best_there_is(cuda: bool, mps: bool, best: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(devices, "_metal_samples_maps", lambda: True)
    assert choose_device("auto") == torch.device(best)


def test_a_numbered_gpu_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(DeviceError, match=r"--device cuda:2: 2 CUDA"):
        choose_device("cuda:2")


@pytest.mark.parametrize(
    ("device", "matrix_units", "dtype"),
    [
        ("cuda", False, torch.float16),
        ("mps", False, torch.float32),
        ("cpu", True, torch.bfloat16),
        ("cpu", False, torch.float32),
    ],
)
def test_auto_precision(
    device: str, matrix_units: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "_cpu_multiplies_bf16", lambda: matrix_units)
    assert devices.choose_precision("auto", torch.device(device)) is dtype
