"""Which device `auto` is, and what is said of one that will not do."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from prv2cli.errors import DeviceError
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
