"""Rates of the parts and over the run, what is frozen, and the mean of the weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from scene_runs import STAGE_CONFIGS
from torch import nn
from training_loop import CPU, configured
from training_runs import (
    settings,
)
from zoedepth_settings import SETTINGS as ZOEDEPTH

from prv2cli.errors import ConfigError, MissingExtraError
from prv2cli.model.build import build_model
from prv2cli.model.config import ZoeDepthConfig
from prv2cli.training.config.load import load_train_config
from prv2cli.training.config.optimiser import OptimiserConfig
from prv2cli.training.config.run import TrainConfig
from prv2cli.training.loop.optimise import (
    Ema,
    Group,
    Rates,
    make_optimiser,
    parameter_groups,
    rates,
    set_rates,
)
from prv2cli.training.loop.trainer import Trainer


def test_one_cycle_is_torchs() -> None:
    config = configured(Path("x"), steps=40, optimiser={"lr": 1.0, "warmup": 0.3, "div": 2, "final_div": 100})
    weight = nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.AdamW([weight], lr=1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 1.0, total_steps=40, pct_start=0.3, div_factor=2, final_div_factor=100
    )
    for step in range(40):
        now = rates(config, step)
        (group,) = optimiser.param_groups
        assert now.share == pytest.approx(group["lr"], rel=1e-9)
        assert now.momentum == pytest.approx(group["betas"][0], rel=1e-9)
        optimiser.step()
        scheduler.step()


def _muon(*groups: Group) -> torch.optim.Optimizer:
    return make_optimiser(list(groups), OptimiserConfig(kind="muon", schedule="plateau"))


@pytest.mark.parametrize("shape", [(48, 20), (16, 40), (24, 8, 3, 3)], ids=str)
def test_muons_first_step_is_the_orthogonal_part_of_the_gradient(shape: tuple[int, ...]) -> None:
    """U V^T of its singular value decomposition, of the mean size that AdamW's steps have (0.2 of the rate)."""
    torch.manual_seed(0)
    weight = nn.Parameter(torch.zeros(shape))
    weight.grad = torch.randn(shape)
    u, _, vh = torch.linalg.svd(weight.grad.flatten(1), full_matrices=False)
    _muon(Group(0.01, 0.0, [weight])).step()
    step, expected = -weight.detach().flatten(1), u @ vh
    assert float(torch.cosine_similarity(step.flatten(), expected.flatten(), dim=0)) > 0.98
    assert float(step.square().mean().sqrt()) == pytest.approx(0.2 * 0.01, rel=0.15)


def test_each_group_has_its_own_rate_with_muon_matrices_or_not() -> None:
    """timm before 1.0.27 gave all that is no matrix one rate, of its own."""
    slow, fast = ([nn.Parameter(torch.zeros(8, 8)), nn.Parameter(torch.zeros(8))] for _ in range(2))
    groups = [Group(1e-3, 0.0, slow), Group(1e-2, 0.0, fast)]
    optimiser = _muon(*groups)
    set_rates(optimiser, groups, Rates(0.5))
    for parameter in slow + fast:
        parameter.grad = torch.linspace(1, 2, parameter.numel()).view(parameter.shape)
    optimiser.step()
    for one, other in zip(slow, fast, strict=True):
        torch.testing.assert_close(other.detach(), 10 * one.detach(), rtol=1e-4, atol=0)
    # Nesterov's momentum of 0.9 makes the first step 1.9 rates long.
    assert float(slow[1].detach().abs().max()) == pytest.approx(1.9 * 5e-4, rel=0.01)


def test_a_timm_without_a_muon_of_such_rates_is_told_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old(torch.optim.SGD):
        """Without fallback_lr_scale."""

    monkeypatch.setattr("timm.optim.muon.Muon", Old)
    with pytest.raises(MissingExtraError, match=r"muon.*prv2cli\[train\]"):
        _muon(Group(1e-3, 0.0, [nn.Parameter(torch.zeros(2, 2))]))


def test_one_cycle_has_nothing_to_move_in_muon() -> None:
    with pytest.raises(ValueError, match=r"schedule: one-cycle moves AdamW's beta1"):
        OptimiserConfig(kind="muon", schedule="one-cycle")


def learning_rate(config: TrainConfig, step: int) -> float:
    """Of the parameters that have no rate of their own."""
    return config.optimiser.lr * rates(config, step).share


def test_the_learning_rate_warms_up_and_falls() -> None:
    config = load_train_config(
        STAGE_CONFIGS["refine"],
        ["steps=100", "optimiser.lr=0.01", "optimiser.warmup=0.1", "optimiser.schedule=cosine"],
    )
    course = [learning_rate(config, step) for step in range(101)]
    assert course[0] == pytest.approx(0.001)
    assert course[:10] == sorted(course[:10])
    assert course[9:] == sorted(course[9:], reverse=True)
    assert course[50] == pytest.approx(0.005)
    assert course[100] == pytest.approx(0.01 / 1000)
    unwarmed = load_train_config(STAGE_CONFIGS["refine"], ["steps=1", "optimiser.warmup=0", "optimiser.lr=1"])
    assert learning_rate(unwarmed, 0) == 1


def test_parameters_have_the_rates_of_their_parts() -> None:
    optimiser = {
        "lr": 1.0,
        "encoder_lr": 0.1,
        "coarse_lr": 0.01,
        "coarse_weight_decay": 0.5,
        "weight_decay": 0.2,
    }
    config = TrainConfig.model_validate(settings(Path("x"), "refine", optimiser=optimiser))
    model = build_model(config.model)
    groups = {group.lr: group for group in parameter_groups(model, config.optimiser)}
    named = {id(parameter): name for name, parameter in model.named_parameters()}
    names = {lr: {named[id(p)] for p in group.parameters} for lr, group in groups.items()}
    assert names[0.01] == {name for name in named.values() if name.startswith("coarse.")}
    assert names[0.1] == {name for name in named.values() if name.startswith("refiner.encoder.network.")}
    assert names[1.0] == set(named.values()) - names[0.01] - names[0.1]
    assert (groups[0.01].weight_decay, groups[1.0].weight_decay) == (0.5, 0.2)
    frozen = TrainConfig.model_validate(settings(Path("x"), "refine", optimiser={"coarse_lr": 0}))
    assert len(parameter_groups(model, frozen.optimiser)) == 1
    assert not any(p.requires_grad for p in model.coarse.parameters())  # type: ignore[union-attr]


def test_the_heads_of_zoedepth_are_no_encoder() -> None:
    pytest.importorskip("transformers")
    model = build_model(ZoeDepthConfig(transformers=ZOEDEPTH, input_size=(64, 96)))
    groups = parameter_groups(model, OptimiserConfig(lr=1.0, encoder_lr=0.1))
    named = {id(parameter): name for name, parameter in model.named_parameters()}
    names = {group.lr: {named[id(p)].split(".")[1] for p in group.parameters} for group in groups}
    assert names == {0.1: {"backbone"}, 1.0: {"neck", "relative_head", "metric_head"}}


@pytest.mark.parametrize("rate", [None, 0.0])
def test_the_coarse_network_learns_unless_its_rate_is_zero(
    data: Path, rate: float | None, tmp_path: Path
) -> None:
    config = configured(data, "refine", optimiser={"coarse_lr": rate, "ema": 0}, steps=1)
    trainer = Trainer(config, tmp_path, CPU, lambda parts: None)
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.run()
    after = trainer.model.state_dict()
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    coarse = {name for name in changed if name.startswith("coarse.")}
    assert bool(coarse) == (rate is None)  # BatchNorm's statistics included
    assert any(name.startswith("refiner.") for name in changed)


@pytest.mark.parametrize("stage", ["coarse", "noisy-pretrain", "refine"])
def test_an_encoder_of_rate_zero_stays_as_it_is(data: Path, stage: str, tmp_path: Path) -> None:
    config = configured(data, stage, optimiser={"encoder_lr": 0.0, "ema": 0}, steps=1)
    trainer = Trainer(config, tmp_path, CPU, lambda parts: None)
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.run()
    after = trainer.model.state_dict()
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    prefix = {
        "coarse": "network.",
        "noisy-pretrain": "encoder.network.",
        "refine": "refiner.encoder.network.",
    }
    assert not {name for name in changed if name.startswith(prefix[stage])}  # BatchNorm's statistics included
    assert changed


def test_ema_follows_the_weights() -> None:
    model = nn.BatchNorm1d(2)
    ema = Ema(model, 0.9)
    with torch.no_grad():
        model.weight.fill_(3.0)
        assert model.num_batches_tracked is not None
        model.num_batches_tracked.fill_(7)
    ema.update(model, 0)  # the first decay is 1/10: early weights do not linger
    torch.testing.assert_close(ema.model.weight, torch.full((2,), 0.1 * 1 + 0.9 * 3))
    ema.update(model, 10_000)
    torch.testing.assert_close(ema.model.weight, torch.full((2,), 0.9 * 2.8 + 0.1 * 3))
    assert ema.model.num_batches_tracked == 7
    assert not ema.model.training
    assert model.training


def test_without_a_decay_the_mean_is_the_model() -> None:
    model = nn.Linear(2, 2)
    ema = Ema(model, 0)
    ema.update(model, 3)
    assert ema.model is model


def test_a_constant_rate_is_warmed_up_and_stays() -> None:
    optimiser = {"schedule": "constant", "warmup": 0.1}
    config = TrainConfig.model_validate(settings(Path("x"), "refine", optimiser=optimiser, steps=100))
    shares = [rates(config, step).share for step in range(100)]
    assert shares[0] == 0.1
    assert shares[4] == 0.5
    assert set(shares[9:]) == {1.0}


def test_what_is_to_be_frozen_must_be_there(data: Path) -> None:
    config = configured(data, "refine", optimiser={"frozen": ["coarse.network.", "network.conv_stem"]})
    with pytest.raises(ConfigError, match=r"optimiser\.frozen: .* begins with 'network\.conv_stem'"):
        parameter_groups(build_model(config.model), config.optimiser)
