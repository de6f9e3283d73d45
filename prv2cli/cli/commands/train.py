"""`prv2 train`: train a refiner, a coarse network or both from a configuration file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prv2cli.cli.ui import QuietOption, configure_logging, progress_bar, say, training_progress, warn

if TYPE_CHECKING:
    from prv2cli.training.config.run import TrainConfig


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
    """Train a model: stage coarse, noisy-pretrain, refine or transfer of the configuration.

    The folder of the run holds last.safetensors and, where one is chosen, best.safetensors (models), state.pt (for
    --resume), log.jsonl and, with tensorboard: true, TensorBoard's files. Several GPUs or machines: torchrun ... -m
    prv2cli train --config FILE.
    """
    from prv2cli.extras import import_opencv
    from prv2cli.training.config.load import load_train_config
    from prv2cli.training.config.mixture import MixtureData
    from prv2cli.training.config.scenes import SceneDataConfig

    settings = load_train_config(config, overrides or [])
    folder = out or Path("runs") / config.stem
    # A missing extra, a wrong device or place: all said before anything runs.
    if isinstance(settings.data, SceneDataConfig | MixtureData) or settings.augment.camera > 0:
        import_opencv()
    if settings.tensorboard:
        from prv2cli.training.logs import import_tensorboard

        import_tensorboard()
    _make_folder(folder)
    _check_models(folder, config, settings)

    from prv2cli.machine.memory import keep_freed_memory
    from prv2cli.training.loop.batches import samples_per_step
    from prv2cli.training.loop.distributed import join_world
    from prv2cli.training.run import fit, resolve

    keep_freed_memory()

    with join_world(settings.device) as (world, device):
        quiet = quiet or not world.first
        configure_logging(quiet=quiet)
        settings = resolve(settings, world)
        images = samples_per_step(settings, world)
        with (
            progress_bar("scenes", quiet=quiet) as scenes,
            training_progress(images, quiet=quiet) as progress,
        ):

            def report(parts: dict[str, Any]) -> None:
                progress(parts["step"], settings.steps_in_all, parts.get("loss"))

            model = fit(
                settings,
                folder,
                device=device,
                resume=resume,
                report=report,
                tell=lambda message: warn(message, quiet=not world.first),
                scene_progress=scenes,
                world=world,
            )
    say(f"{model}: trained for {settings.steps_in_all} steps", quiet=quiet)


def _check_models(folder: Path, config: Path, settings: TrainConfig) -> None:
    """Nothing that the run reads may be replaced by what it writes, nor any model that is not prv2's."""
    from prv2cli.checkpoints.model_file import read_config
    from prv2cli.errors import OutputError, Prv2Error, UsageError
    from prv2cli.files.protected import Protected
    from prv2cli.hub.resolve import path_of
    from prv2cli.training.both import BOTH, FOR_BLURRED
    from prv2cli.training.logs import LOG
    from prv2cli.training.loop.state import BEST, LAST, PLATEAU, STATE

    inputs = Protected()
    inputs.add("--config", config)
    inputs.add("start_from", settings.start_from)
    for key, model in (
        ("coarse_from", settings.coarse_from),
        ("transfer.teacher", settings.transfer.teacher),
    ):
        inputs.add(key, None if model is None else path_of(model), inside=True)
    models, others = [Path(LAST), Path(BEST)], [Path(STATE), Path(PLATEAU), Path(LOG)]
    if settings.blurred is not None:
        models, others = (files + [FOR_BLURRED / name for name in files] for files in (models, others))
        models.append(BOTH)
    for name in models + others:
        what = inputs.at(folder / name)
        if what is not None:
            raise UsageError(f"--out {folder}: {name} in it is the file of {what}; name another folder")
    for name in models:
        if not os.path.lexists(folder / name):
            continue
        try:
            read_config(folder / name)
        except Prv2Error as error:
            raise OutputError(
                f"--out {folder}: {name} in it is no model by prv2; name another folder"
            ) from error


def _make_folder(folder: Path) -> None:
    from prv2cli.errors import OutputError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"--out {folder}: cannot be made a folder ({error.strerror}); name another"
        ) from error
