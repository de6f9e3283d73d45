"""Compiled parts compute the same, under the same names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from training_loop import configured, losses_of

from prv2cli.checkpoints.model_file import read_checkpoint


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch hides it, unless warnings are errors
def test_compiled_parts_compute_the_same(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the code generator, which needs a compiler: what is tested is that all parts can be captured."""
    called: list[str] = []

    def compile(self: nn.Module, *_: Any, **__: Any) -> None:
        called.append(type(self).__name__)
        self._compiled_call_impl = torch.compile(self._call_impl, backend="eager")

    monkeypatch.setattr(nn.Module, "compile", compile)
    plain = losses_of(configured(data, "coarse", steps=2), tmp_path / "plain")
    compiled = losses_of(configured(data, "coarse", steps=2, compile=True), tmp_path / "compiled")
    assert called
    assert compiled == pytest.approx(plain, rel=1e-5)
    names = [
        set(read_checkpoint(tmp_path / run / "last.safetensors").tensors) for run in ("plain", "compiled")
    ]
    assert names[0] == names[1]
