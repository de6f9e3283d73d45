"""The weights that a run starts from: of the model, of its parts, of a smaller one; what does not fit is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from scene_runs import STAGE_CONFIGS, overrides, train_on_scenes
from training_loop import CPU, configured, first_batch, train
from training_runs import (
    settings,
)

from prv2cli.checkpoints.model_file import read_checkpoint
from prv2cli.model.timm_pyramid import import_timm
from prv2cli.training.config.load import load_train_config
from prv2cli.training.loop.trainer import Trainer
from prv2cli.training.stages.table import stage_of


def test_refine_starts_from_both_networks(runs: Path, data: Path, tmp_path: Path) -> None:
    config = configured(
        data,
        "refine",
        start_from=str(runs / "noisy-pretrain" / "last.safetensors"),
        coarse_from=str(runs / "coarse" / "last.safetensors"),
    )
    state = Trainer(config, tmp_path, CPU, lambda parts: None).model.state_dict()
    for part, run in (("refiner", "noisy-pretrain"), ("coarse", "coarse")):
        for name, tensor in read_checkpoint(runs / run / "last.safetensors").tensors.items():
            assert torch.equal(state[f"{part}.{name}"], tensor)


def test_coarse_from_takes_the_place_of_the_coarse_network_of_a_bundle(
    runs: Path, data: Path, tmp_path: Path
) -> None:
    bundle, coarse = (runs / run / "last.safetensors" for run in ("refine", "coarse"))
    wanted = {f"coarse.{name}": tensor for name, tensor in read_checkpoint(coarse).tensors.items()}
    wanted |= {n: t for n, t in read_checkpoint(bundle).tensors.items() if n.startswith("refiner.")}
    config = configured(data, "refine", start_from=str(bundle), coarse_from=str(coarse))
    state = Trainer(config, tmp_path, CPU, lambda parts: None).model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in wanted.items())


def test_a_refiner_must_fit_its_coarse_network(data: Path, tmp_path: Path, capsys: Any) -> None:
    model = settings(data, "refine")["model"]
    refiner = model["refiner"] | {"coarse": {"kind": "external", "channels": [4] * 6}}
    for stage in ("refine", "noisy-pretrain"):
        train(tmp_path, data, stage, 2, model={"refiner": refiner})
        error = capsys.readouterr().err
        assert "model.refiner.coarse.channels: [4, 4, 4, 4, 4, 4]" in error
        assert "gives [4, 4, 8, 8, 16, 16]" in error


def test_weights_that_cannot_be_downloaded_are_named(
    runs: Path, data: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a refiner to start from, nothing is asked for."""
    import_timm()

    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("the Hub cannot be reached")

    monkeypatch.setattr("timm.models._hub.hf_hub_download", unreachable)
    model = settings(data, "refine")["model"]
    encoder = {"name": "test_efficientnet", "pretrained": True}
    changes: dict[str, Any] = {"model": {"refiner": model["refiner"] | {"encoder": encoder}}, "steps": 1}
    train(tmp_path, data, "refine", 1, **changes)
    error = capsys.readouterr().err
    assert "encoder.pretrained" in error
    assert "test_efficientnet" in error
    assert error.count("\n") <= 2
    start = str(runs / "noisy-pretrain" / "last.safetensors")
    assert train(tmp_path, data, "refine", start_from=start, **changes)


def test_a_model_can_be_the_start_of_another_run(cache: Path, tmp_path: Path, capsys: Any) -> None:
    config = load_train_config(STAGE_CONFIGS["coarse"], overrides(cache))
    trainer = Trainer(config, tmp_path, CPU, lambda parts: None)
    trainer.save()
    start = tmp_path / "last.safetensors"
    again = load_train_config(STAGE_CONFIGS["coarse"], overrides(cache, seed=2, start_from=start))
    loaded = Trainer(again, tmp_path, CPU, lambda parts: None).model.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in read_checkpoint(start).tensors.items())
    assert train_on_scenes("refine", tmp_path / "other", cache, start_from=start) == 2
    assert "another architecture" in capsys.readouterr().err


def test_a_trained_refiner_can_grow(cache: Path, tmp_path: Path) -> None:
    """Added layers begin as the identity: the larger network computes what the smaller one did. What is done outside of
    the network is free."""
    small = load_train_config(STAGE_CONFIGS["refine"], overrides(cache, **{"model.head.dilations": []}))
    trainer = Trainer(small, tmp_path, CPU, lambda parts: None)
    trainer.save()
    changes: dict[str, object] = {
        "model.head.dilations": [1, 2],
        "model.denoise": True,
        "model.back_projection": 1,
        "model.shock_filter": 3,
        "start_from": tmp_path / "last.safetensors",
        "seed": 7,
    }
    grown = Trainer(
        load_train_config(STAGE_CONFIGS["refine"], overrides(cache, **changes)),
        tmp_path,
        CPU,
        lambda parts: None,
    )
    batch = first_batch(small)
    losses = [stage_of(small).step(t.model.eval(), batch, 0.0, small).loss for t in (trainer, grown)]
    assert losses[0] == losses[1]
    losses[1].backward()
    assert all(layer.weight.grad.abs().sum() > 0 for layer in grown.model.head.along)  # type: ignore[union-attr]


def test_a_refiner_that_is_told_more_starts_as_the_one_that_was_not(cache: Path, tmp_path: Path) -> None:
    """What it is told of the coarse map enters with zeros, and is learned."""
    configs = []
    for told in (False, True):
        changes: dict[str, object] = {"model.coarse.character": told}
        if told:
            changes |= {"start_from": tmp_path / "last.safetensors", "seed": 7}
        config = load_train_config(STAGE_CONFIGS["refine"], overrides(cache, **changes))
        configs.append((config, Trainer(config, tmp_path, CPU, lambda parts: None)))
        if not told:
            configs[0][1].save()
    batch = first_batch(configs[0][0])
    losses = [stage_of(c).step(t.model.eval(), batch, 0.0, c).loss for c, t in configs]
    assert losses[0] == losses[1]
    losses[1].backward()
    stem = configs[1][1].model.guide.levels[0].enter[0]  # type: ignore[union-attr, index]
    assert stem.weight.grad[:, 4:].abs().sum() > 0
