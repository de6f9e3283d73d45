"""`prv2 train`: train a refiner or a coarse network from a configuration file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from prv2cli.cli.ui import QuietOption, progress_bar, say


def train(
    config: Annotated[Path, typer.Option("--config", help="YAML file with the settings of the run.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings to change.")] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder of the run. Default runs/<config>.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a stopped run saved last.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Train a model on procedural scenes.

    The folder of the run holds last.safetensors (the model), state.pt (for --resume) and log.jsonl.
    """
    from prv2cli.config import load_train_config

    settings = load_train_config(config, overrides or [])
    folder = out or Path("runs") / config.stem

    from prv2cli.devices import choose_device
    from prv2cli.training.loop import fit

    device = choose_device(settings.device)
    folder.mkdir(parents=True, exist_ok=True)
    log = (folder / "log.jsonl").open("a" if resume else "w", encoding="utf-8")
    with log, progress_bar("scenes", quiet=quiet) as scenes, progress_bar("training", quiet=quiet) as steps:

        def report(parts: dict[str, Any]) -> None:
            steps(parts["step"], settings.steps)
            if parts["step"] % settings.log_every == 0:
                log.write(json.dumps(parts) + "\n")
                log.flush()

        model = fit(settings, folder, device=device, resume=resume, report=report, scene_progress=scenes)
    say(f"{model}: trained for {settings.steps} steps", quiet=quiet)
