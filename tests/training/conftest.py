"""Photographs, scenes and finished runs that the tests of training share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from scene_runs import SCENES, scene_pool
from training_loop import train
from training_runs import (
    write_photographs,
)

from prv2cli.files import atomic


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """images/ and depth/ of a few photographs."""
    return write_photographs(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="session")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """coarse, noisy-pretrain and refine, one after the other, each in its folder."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs")
    train(folder, data, "coarse", steps=2)
    train(folder, data, "noisy-pretrain", steps=2)
    refiner, coarse = (
        folder / "noisy-pretrain" / "last.safetensors",
        folder / "coarse" / "last.safetensors",
    )
    train(folder, data, "refine", steps=2, start_from=str(refiner), coarse_from=str(coarse))
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few small scenes, made as a run makes them: by a process of its own."""
    pytest.importorskip("cv2")
    folder = tmp_path_factory.mktemp("scenes")
    calls: list[tuple[int, int]] = []
    scene_pool(folder).make(1, lambda done, total: calls.append((done, total)))
    assert calls == [(i, SCENES) for i in range(1, SCENES + 1)]
    return folder


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """While its one value is True, files are written to a device without any space."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    full, real = [False], atomic._open_temp

    def open_temp(path: Path) -> tuple[Path, Any]:
        temp, file = real(path)
        if not full[0]:
            return temp, file
        file.close()
        return temp, open("/dev/full", "r+b", buffering=0)  # noqa: PTH123

    monkeypatch.setattr(atomic, "_open_temp", open_temp)
    return full
