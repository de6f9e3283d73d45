"""What is written down of a run: log.jsonl always, TensorBoard with pictures where it is asked for."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import torch
from torch import Tensor

from prv2cli.depth_files.ours.preview import colourise
from prv2cli.errors import MissingExtraError
from prv2cli.files.atomic import atomic_write, output_error
from prv2cli.training.config.run import TrainConfig

Numbers = dict[str, Any]
_DEPTHS = ("coarse", "refined", "pseudo-label", "truth")

LOG = "log.jsonl"


class Log(Protocol):
    """Where the loop tells what happens."""

    def step(self, numbers: Numbers) -> None:
        """The numbers of one step."""
        ...

    def evaluated(self, step: int, figures: dict[str, Numbers]) -> None:
        """row -> figure -> value."""
        ...

    def pictures(self, step: int, strip: np.ndarray) -> None:
        """(H, W, 3) uint8."""
        ...


class NoLog:
    """For the processes that leave it to the first one."""

    def step(self, numbers: Numbers) -> None: ...
    def evaluated(self, step: int, figures: dict[str, Numbers]) -> None: ...
    def pictures(self, step: int, strip: np.ndarray) -> None: ...


class RunLog:
    """log.jsonl and TensorBoard's events in the folder of a run.

    The log is opened at the first step: a run that is refused leaves an earlier log alone. A resumed run repeats the
    steps after the last save, so their old lines go, and a half-written one too. On a full disk whole lines are left
    out, TensorBoard's log ends, and both are told.
    """

    def __init__(self, folder: Path, config: TrainConfig, tell: Callable[[str], None]) -> None:
        """Raises MissingExtraError: TensorBoard is asked for and not installed."""
        self.folder, self.config, self.tell = folder, config, tell
        self.path = folder / LOG
        self._file: BinaryIO | None = None
        self._complete = True
        self._writer_class = import_tensorboard() if config.tensorboard else None
        self._board: Any = None

    def step(self, numbers: Numbers) -> None:
        """Raises OutputError at the first step: no log can be opened."""
        self._open(numbers["step"])
        if numbers["step"] % self.config.log_every == 0 or "loss" not in numbers:
            self._write(numbers)
            self._scalars("train", numbers["step"], numbers)

    def evaluated(self, step: int, figures: dict[str, Numbers]) -> None:
        self._write({"step": step, "evaluation": figures})
        for row, values in figures.items():
            self._scalars(f"evaluation/{row}", step, values)

    def pictures(self, step: int, strip: np.ndarray) -> None:
        self._on_board("add_image", "training sample", strip, step, dataformats="HWC")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._on_board("close")

    def _open(self, step: int) -> None:
        if self._file is not None:
            return
        try:
            kept = _lines_before(self.path, step)
            with atomic_write(self.path) as file:  # killed here, a run must not lose its log
                file.write("".join(kept).encode())
            self._file = self.path.open("ab", buffering=0)
        except OSError as error:
            raise output_error(self.path, error) from error
        if self._writer_class is not None:
            self._board = self._writer_class(str(self.folder / "tensorboard"), purge_step=step)

    def _write(self, numbers: Numbers) -> None:
        assert self._file is not None
        line, start = (json.dumps(numbers) + "\n").encode(), self._file.seek(0, os.SEEK_END)
        try:
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, "")
            self._complete = True
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(start)
            if self._complete:
                self.tell(
                    f"{output_error(self.path, error)}; its lines are left out until then, the run goes on"
                )
            self._complete = False

    def _scalars(self, group: str, step: int, numbers: Numbers) -> None:
        for name, value in numbers.items():
            if name != "step" and isinstance(value, int | float):
                self._on_board("add_scalar", f"{group}/{name}", value, step)

    def _on_board(self, do: str, *what: Any, **how: Any) -> None:
        if self._board is None:
            return
        try:
            getattr(self._board, do)(*what, **how)
        except OSError as error:
            self._board = None
            self.tell(f"{output_error(self.folder / 'tensorboard', error)}; it ends here, the run goes on")


def import_tensorboard() -> Any:
    """torch's SummaryWriter. Raises MissingExtraError."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError("TensorBoard's log (tensorboard: true)", "train") from error
    return SummaryWriter


def _lines_before(path: Path, step: int) -> list[str]:
    if step == 1 or not path.exists():
        return []
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        with suppress(ValueError, KeyError, TypeError):
            if json.loads(line)["step"] < step:
                kept.append(line)
    return kept


def picture_strip(pictures: Mapping[str, Tensor]) -> np.ndarray:
    """Side by side: the photograph, the coarse, the refined and the true depth in the same colours.

    Args:
        pictures: of a StepOutput.

    Returns:
        (H, W, 3) uint8; grey where there is no depth.
    """
    photograph = pictures["photograph"].float().clamp(0, 1).cpu()
    height, width = photograph.shape[-2:]
    panels = [
        torch.nn.functional.interpolate(pictures[name][None].float().cpu(), (height, width), mode="nearest")[
            0, 0
        ]
        for name in _DEPTHS
        if name in pictures
    ]
    colours = colourise(torch.cat(panels, dim=1).numpy())  # together, so that one depth has one colour
    pixels = (photograph.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    return np.concatenate([pixels, colours], axis=1)
