"""`prv2 train`: train a refiner or a coarse network from a configuration file."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from prv2cli.cli.ui import QuietOption, progress_bar, say


def train(
    config: Annotated[Path, typer.Option("--config", help="YAML file with the settings of the run.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings to change.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder of the run. Default runs/<config>.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a stopped run saved last.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Train a model on procedural scenes.

    The folder of the run holds last.safetensors (the model), state.pt (for --resume) and log.jsonl.
    """
    from prv2cli.config import load_train_config
    from prv2cli.textures import opencv

    settings = load_train_config(config, overrides or [])
    folder = out or Path("runs") / config.stem
    opencv()  # a missing extra, a wrong device or place: all said before anything runs
    _make_folder(folder)

    from prv2cli.devices import choose_device
    from prv2cli.training.loop import fit

    device = choose_device(settings.device)
    log = _Log(folder / "log.jsonl", settings.log_every)
    with log, progress_bar("scenes", quiet=quiet) as scenes, progress_bar("training", quiet=quiet) as steps:

        def report(parts: dict[str, Any]) -> None:
            steps(parts["step"], settings.steps)
            log.add(parts)

        model = fit(settings, folder, device=device, resume=resume, report=report, scene_progress=scenes)
    say(f"{model}: trained for {settings.steps} steps", quiet=quiet)


def _make_folder(folder: Path) -> None:
    from prv2cli.errors import OutputError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"--out {folder}: cannot be made a folder ({error.strerror}); name another"
        ) from error


class _Log(AbstractContextManager["_Log"]):
    """log.jsonl, opened at the first step: a run that is refused leaves an earlier log alone.

    A resumed run repeats the steps after the last save, so their old lines go, and a half-written one too.
    """

    def __init__(self, path: Path, every: int) -> None:
        self.path, self.every = path, every
        self.file: TextIO | None = None

    def add(self, parts: dict[str, Any]) -> None:
        """Write the numbers of a step, if it is one to log."""
        if self.file is None:
            kept = self._lines_before(parts["step"])
            self.file = self.path.open("w", encoding="utf-8")
            self.file.writelines(kept)
        if parts["step"] % self.every == 0:
            self.file.write(json.dumps(parts) + "\n")
            self.file.flush()

    def _lines_before(self, step: int) -> list[str]:
        if step == 1 or not self.path.exists():
            return []
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines(keepends=True):
            with suppress(ValueError, KeyError):
                if json.loads(line)["step"] < step:
                    kept.append(line)
        return kept

    def __exit__(self, *_: object) -> None:
        if self.file is not None:
            self.file.close()
