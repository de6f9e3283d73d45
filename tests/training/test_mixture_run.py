"""`lite` on a mixture of sets: what it learns, and a plateau that can go on to more steps."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from rgbd_sets import write_set
from training_loop import first_batch
from training_runs import COARSE, read_log

from prv2cli.checkpoints.model_file import read_checkpoint
from prv2cli.errors import ConfigError
from prv2cli.model.coarse.lite import INPUT_GAIN, LiteCoarse
from prv2cli.model.config import LiteConfig
from prv2cli.model.timm_pyramid import import_timm
from prv2cli.training.config.run import TrainConfig
from prv2cli.training.encoder_start import load_encoder
from prv2cli.training.loop.optimise import decay_start, rates
from prv2cli.training.loop.state import LAST, PLATEAU, STATE
from prv2cli.training.run import fit
from prv2cli.training.stages.mixture import mixture_step
from prv2cli.training.stages.table import stage_of

pytest.importorskip("cv2")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sets, one of each kind."""
    folder = tmp_path_factory.mktemp("sets")
    write_set(folder / "metres")
    write_set(folder / "scale", scale=None)
    write_set(folder / "affine", kind="inverse", scale=None)
    return folder


def settings(root: Path, **changes: Any) -> TrainConfig:
    sets = [{"folder": folder, "share": 1} for folder in ("metres", "scale", "affine")]
    raw: dict[str, Any] = {
        "stage": "coarse",
        "model": COARSE | {"doubt": True},
        "steps": 4,
        "batch_size": 2,
        "device": "cpu",
        "log_every": 1,
        "save_every": 2,
        "data": {"layout": "mixture", "root": str(root), "sets": sets, "sizes": [[32, 64]], "workers": 0},
        "optimiser": {"lr": 1e-3, "schedule": "plateau", "decay": 0.5, "warmup": 0.25},
    }
    return TrainConfig.model_validate(raw | changes)


def test_every_kind_of_depth_teaches(root: Path) -> None:
    """Each image changes the network's shape; the scale and the doubt follow from photographs in metres alone."""
    config = settings(root, batch_size=12)
    model = LiteCoarse(config.model).train()  # type: ignore[arg-type]
    output = stage_of(config).step(model, first_batch(config), 0.0, config)
    assert stage_of(config).step is mixture_step
    output.loss.backward()
    untaught = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not untaught
    assert set(output.parts) >= {"shape", "gradient", "log_error", "metric", "doubt_in_metres"}


def test_the_network_learns_the_metres_and_where_there_are_none(root: Path, tmp_path: Path) -> None:
    optimiser = {"lr": 0.01, "schedule": "plateau", "ema": 0.5}
    fit(settings(root, steps=60, batch_size=6, optimiser=optimiser), tmp_path, device=CPU)
    log = read_log(tmp_path)
    first, last = log[:5], log[-10:]

    def mean(lines: list[dict[str, Any]], key: str) -> float:
        return sum(line[key] for line in lines) / len(lines)

    assert mean(last, "metric") < 0.6 * mean(first, "metric")
    assert mean(last, "shape") < mean(first, "shape")
    assert mean(last, "doubt_in_metres") < 0.5
    assert mean(last, "doubt_elsewhere") > 0.7


def test_a_plateau_falls_at_its_end_only(root: Path) -> None:
    config = settings(root, steps=100)
    shares = [rates(config, step).share for step in range(100)]
    assert decay_start(config) == 50
    assert shares[25:51] == [1.0] * 26
    assert all(a > b for a, b in itertools.pairwise(shares[50:]))
    assert shares[99] == pytest.approx(0.02)
    longer = settings(root, steps=100).model_copy(update={"steps": 400})
    assert [rates(longer, step).share for step in range(100, 200)] == [1.0] * 100


def test_a_run_goes_on_to_more_steps_from_before_its_decay(root: Path, tmp_path: Path) -> None:
    for folder, steps in (("whole", 8), ("short", 4)):
        # The warm-up is a share of the run: it is left out to compare two lengths.
        optimiser = {"lr": 1e-3, "schedule": "plateau", "decay": 0.5, "warmup": 0}
        config = settings(root, steps=steps, optimiser=optimiser)
        fit(config, tmp_path / folder, device=CPU)
    longer = settings(root, steps=8, optimiser=optimiser)
    with pytest.raises(ConfigError, match="steps is 8, there 4"):
        fit(longer, tmp_path / "short", device=CPU, resume=True)
    shutil.copy(tmp_path / "short" / PLATEAU, tmp_path / "short" / STATE)
    fit(longer, tmp_path / "short", device=CPU, resume=True)
    one, other = (read_checkpoint(tmp_path / folder / LAST).tensors for folder in ("whole", "short"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_frozen_parts_stay_as_they_are(root: Path, tmp_path: Path) -> None:
    optimiser = {"lr": 1e-2, "frozen": ["network.conv_stem", "network.bn1"], "ema": 0}
    config = settings(root, optimiser=optimiser)
    torch.manual_seed(config.seed)
    before = LiteCoarse(config.model).state_dict()  # type: ignore[arg-type]
    after = read_checkpoint(fit(config, tmp_path, device=CPU)).tensors
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert not any(name.startswith(("network.conv_stem", "network.bn1")) for name in changed)
    assert {"network.blocks.1.0.bn1.running_mean", "to_doubt.out.weight"} <= changed


def test_an_encoder_starts_from_a_classifier(tmp_path: Path) -> None:
    timm = import_timm()
    classifier = timm.create_model("test_efficientnet_gn").eval()
    torch.save(classifier.state_dict(), tmp_path / "classifier.pth")
    model = LiteCoarse(LiteConfig(encoder="test_efficientnet_gn", width=8)).eval()
    load_encoder(model, tmp_path / "classifier.pth")
    rgb = torch.rand(1, 3, 64, 64)
    spread = torch.tensor(timm.get_pretrained_cfg("test_efficientnet_gn").std).view(1, 3, 1, 1)
    with torch.inference_mode():
        theirs = classifier.forward_intermediates((rgb - 0.5) / spread, intermediates_only=True)
        ours = model.network((rgb - 0.5) * INPUT_GAIN)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_an_encoder_that_does_not_fit_is_refused(root: Path, tmp_path: Path) -> None:
    model = LiteCoarse(LiteConfig(encoder="test_efficientnet", width=8))
    with pytest.raises(ConfigError, match=r"encoder_from: .*no such file"):
        load_encoder(model, tmp_path / "none.pth")
    torch.save({"conv_stem.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ConfigError, match=r"does not fit test_efficientnet: \d+ of \d+ tensors"):
        load_encoder(model, tmp_path / "other.pth")
    resnet = LiteCoarse(LiteConfig(encoder="resnet10t", width=8))
    torch.save(import_timm().create_model("resnet10t").state_dict(), tmp_path / "resnet.pth")
    with pytest.raises(ConfigError, match=r"another mean than 0\.5"):
        load_encoder(resnet, tmp_path / "resnet.pth")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stage": "refine"}, "stage: refine trains a model of kind refiner or bundle"),
        ({"model": {"kind": "dav2"}}, "a mixture trains a model of kind lite"),
        ({"losses": {"silog": 2}}, "losses: stage coarse of this model and data makes no use of it"),
    ],
)
def test_impossible_runs_are_refused(root: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings(root, **changes)


def test_an_encoder_of_another_network_is_refused() -> None:
    raw = {"stage": "coarse", "model": {"kind": "dav2"}, "encoder_from": "a.pth", "steps": 1}
    data = {"layout": "folder", "root": "."}
    with pytest.raises(ValueError, match="encoder_from: only a model of kind lite"):
        TrainConfig.model_validate(raw | {"data": data, "sampling": {"image": [518, 518], "tile": [14, 14]}})
