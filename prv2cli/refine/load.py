"""The networks behind a Refiner, from their names to what is ready to be built: each is found and read once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from prv2cli.checkpoints.model_file import Checkpoint, read_checkpoint
from prv2cli.coarse.lite import at_its_word
from prv2cli.coarse.load import load_coarse
from prv2cli.coarse.network import CoarseNetwork, takes_prompt
from prv2cli.errors import CheckpointError, UsageError
from prv2cli.hub.registry import DEFAULT_REFINER
from prv2cli.hub.resolve import ModelFile, auto_coarse, resolve
from prv2cli.machine.devices import choose_device
from prv2cli.model.config import AnyModelConfig, BundleConfig, RefinerConfig
from prv2cli.refine.request import Models

Check = Callable[[RefinerConfig | BundleConfig], object]


class Loaded(NamedTuple):
    """A refiner, or a bundle, with the coarse network beside it. name: of the refiner, as messages call it."""

    name: str
    refiner: Checkpoint
    coarse: CoarseNetwork | None


def load_networks(
    models: Models, *, cache_dir: str | Path | None = None, check: Check | None = None
) -> Loaded:
    """The networks of `models`.

    Args:
        cache_dir: instead of the Hub's cache (HF_HUB_CACHE).
        check: raises for a refiner that cannot do what is asked for, told from its header, before any weights are read
            and before a coarse network is looked for.

    Raises:
        UsageError: unknown name, or a prompt for a network that takes none. CheckpointError: a file that is no model.
        DeviceError: no such device.
    """
    name = DEFAULT_REFINER if models.model == "auto" else models.model
    source = resolve(name, revision=models.revision, offline=models.offline, cache_dir=cache_dir)
    refiner = load_model(source, check)
    none = models.coarse is None or (models.coarse == "auto" and isinstance(refiner.config, BundleConfig))
    coarse = None if none else _coarse_of(models, cache_dir)
    if models.prompted and not takes_prompt(coarse):
        raise UsageError(
            f"--coarse {models.coarse} with --coarse-depth: this network takes no depth map as its prompt, as "
            "Prompt Depth Anything does; leave one of the two out"
        )
    return Loaded(source.name, refiner, coarse)


def _coarse_of(models: Models, cache_dir: str | Path | None) -> CoarseNetwork:
    assert models.coarse is not None
    if models.coarse == "auto":
        chosen = auto_coarse(models.scene, offline=models.offline, cache_dir=cache_dir)
    else:
        chosen = resolve(models.coarse, offline=models.offline, cache_dir=cache_dir)
    network = load_coarse(chosen, choose_device(models.device), models.scene)
    return at_its_word(network) if models.trusting else network


def load_model(source: ModelFile, check: Check | None = None) -> Checkpoint:
    """The checkpoint of a refiner or a bundle. Raises CheckpointError for anything else, and what `check` raises."""
    if source.path.is_dir():
        raise CheckpointError(f"{source.name} holds no prv2 model; a depth network is used with --coarse")
    if source.path.suffix in (".pth", ".pt", ".bin"):
        raise CheckpointError(
            f"{source.name}: convert it first: prv2 models convert {source.path.name} OUT.safetensors"
        )

    def refines(config: AnyModelConfig) -> None:
        if not isinstance(config, RefinerConfig | BundleConfig):
            raise CheckpointError(
                f"{source.name}: a model of kind {config.kind} cannot refine; use it with --coarse"
            )
        if check is not None:
            check(config)

    return read_checkpoint(source.path, refines)
