"""The stages of training: what each learns, what it writes, and what the next one starts from."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from training_runs import PHOTOGRAPHS, PROCESS, SIZE, read_log, settings, write_config, write_photographs

from prv2cli.checkpoints.model_file import read_checkpoint
from prv2cli.cli import app
from prv2cli.errors import InputError, UsageError
from prv2cli.model.build import Bundle, build_model
from prv2cli.model.config import BundleConfig
from prv2cli.model.refiner.patchrefiner import PatchRefiner
from prv2cli.model.timm_pyramid import import_timm
from prv2cli.training.config.losses import TransferConfig
from prv2cli.training.config.run import TrainConfig
from prv2cli.training.config.samples import AugmentConfig
from prv2cli.training.losses.detail import ssi, ssigm
from prv2cli.training.losses.differences import gradient_matching
from prv2cli.training.losses.truth import silog
from prv2cli.training.samples.augment import augment
from prv2cli.training.samples.photos import PhotoSamples
from prv2cli.training.samples.procedural import BROKEN, collate
from prv2cli.training.stages.base import truth_loss
from prv2cli.training.stages.coarse import _relative_error
from prv2cli.training.stages.end_to_end import detail_loss, end_to_end_step, refine_tile, transfer_step
from prv2cli.training.stages.pretrain import noise_features, predict_from_noise
from prv2cli.training.trainer import Trainer, first_batch

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="module")
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


def train(folder: Path, data: Path, stage: str, code: int = 0, **changes: Any) -> Path:
    config = write_config(folder / f"{stage}.yaml", data, stage, **changes)
    assert app._run(["train", "--config", str(config), "-o", str(folder / stage), "-q"], False) == code
    return folder / stage


def configured(data: Path, stage: str, **changes: Any) -> TrainConfig:
    return TrainConfig.model_validate(settings(data, stage, **changes))


def built(config: TrainConfig) -> Bundle:
    torch.manual_seed(0)
    model = build_model(config.model).train()
    assert isinstance(model, Bundle)
    return model


# --- what is written ------------------------------------------------------------------------------------------


def test_pretraining_writes_a_refiner_whose_stem_ignores_the_coarse_depth(runs: Path) -> None:
    checkpoint = read_checkpoint(runs / "noisy-pretrain" / "last.safetensors")
    refiner = checkpoint.build()
    assert isinstance(refiner, PatchRefiner) and refiner.config.coarse.kind == "external"
    stem = next(part for part in refiner.encoder.modules() if isinstance(part, torch.nn.Conv2d)).weight
    assert stem.shape[1] == 4
    assert torch.equal(stem[:, 3], torch.zeros_like(stem[:, 3])) and stem[:, :3].abs().sum() > 0


def test_pretraining_recovers_from_a_network_that_says_nothing(data: Path) -> None:
    """With every pixel at 0 metres a ReLU has no gradient."""
    refiner = built(configured(data, "noisy-pretrain")).refiner
    assert isinstance(refiner, PatchRefiner)
    weight = refiner.head.to_residual.weight  # type: ignore[union-attr]
    with torch.no_grad():
        weight.copy_(-weight.abs())  # type: ignore[operator, arg-type]
    image, truth = torch.rand(2, 3, *PROCESS), torch.full((2, 1, *PROCESS), 2.0)
    optimiser = torch.optim.Adam(refiner.parameters(), lr=0.01)
    losses = []
    for _ in range(12):
        depth = predict_from_noise(refiner, image, [1, 2])
        loss = silog(depth, truth, truth > 0)
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[0] > 60  # all at 0
    assert losses[-1] < 20


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


def test_an_end_to_end_run_is_a_bundle_for_refine(runs: Path, data: Path, tmp_path: Path) -> None:
    bundle = runs / "refine" / "last.safetensors"
    assert isinstance(read_checkpoint(bundle).config, BundleConfig)
    photograph, out = data / "images" / "00.png", tmp_path / "depth.npy"
    assert (
        app._run(["refine", str(photograph), "-m", str(bundle), "-o", str(out), "--device", "cpu"], False)
        == 0
    )
    depth = np.load(out)
    assert depth.shape == SIZE and (depth > 0).all()
    numbers = read_log(runs / "refine")
    assert all(np.isfinite(list(line.values())).all() for line in numbers)
    assert {"loss", "silog", "coarse_silog", "lr"} <= set(numbers[0])


@pytest.mark.parametrize("detail", ["ssigm", "ranking"])
def test_transfer_from_a_teacher(runs: Path, data: Path, tmp_path: Path, detail: str) -> None:
    pytest.importorskip("skimage")
    teacher = str(runs / "refine" / "last.safetensors")
    out = train(
        tmp_path,
        data,
        "transfer",
        steps=2,
        start_from=teacher,
        transfer={"teacher": teacher, "detail": [detail], "anchors": 50, "weight": 0.25},
    )
    assert isinstance(read_checkpoint(out / "last.safetensors").build(), Bundle)
    for line in read_log(out):
        assert line["loss"] == pytest.approx(line["silog"] + 0.25 * line[detail], rel=1e-5)


def test_transfer_from_files(runs: Path, data: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    for number in range(PHOTOGRAPHS - 1):  # one is missing: told once, and that photograph left out
        np.save(labels / f"{number:02d}_depth.npy", np.full((32, 48), 2.0 + number, np.float32))
    changes = {"pseudo_labels": str(labels), "suffix": "_depth", "scale": 1.0}
    config = configured(data, "transfer", steps=5, transfer=changes)
    batch = first_batch(config)
    assert batch["pseudo"].shape == batch["truth"].shape
    told: list[str] = []
    trainer = Trainer(config, tmp_path, CPU, lambda parts: None, tell=told.append)
    for moved in trainer._batches():
        levels = moved["pseudo"].flatten(1)
        assert set(levels.unique().tolist()) <= {0.0, 2.0, 3.0, 4.0, 5.0}  # 0: turned in from outside
    assert len(told) == 1 and "04" in told[0] and "no pseudo-label" in told[0]


def test_a_teacher_must_see_the_same_tiles(runs: Path, data: Path, tmp_path: Path, capsys: Any) -> None:
    teacher = str(runs / "refine" / "last.safetensors")
    changes = {"model": {"process_size": [64, 64]}, "transfer": {"teacher": teacher}}
    train(tmp_path, data, "transfer", 2, **changes)
    assert "transfer.teacher" in (error := capsys.readouterr().err) and str(list(PROCESS)) in error
    wrong = str(runs / "coarse" / "last.safetensors")
    train(tmp_path, data, "transfer", 1, transfer={"teacher": wrong})
    assert "cannot refine" in capsys.readouterr().err


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
    assert "encoder.pretrained" in error and "test_efficientnet" in error and error.count("\n") <= 2
    start = str(runs / "noisy-pretrain" / "last.safetensors")
    assert train(tmp_path, data, "refine", start_from=start, **changes)


# --- steps ----------------------------------------------------------------------------------------------------


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


def test_every_parameter_of_a_bundle_learns(data: Path) -> None:
    config = configured(data, "refine", transfer={})
    model = built(config)
    end_to_end_step(model, first_batch(config), 0.0, config).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{name} is never used: DDP would wait for it"


def test_noise_depends_on_each_sample_alone(data: Path) -> None:
    refiner = built(configured(data, "refine")).refiner
    assert isinstance(refiner, PatchRefiner)
    image = torch.rand(2, 3, 64, 96)
    together = noise_features(refiner, image, [3, 4])
    for level, (feature, alone) in enumerate(
        zip(together, noise_features(refiner, image[1:], [4]), strict=True)
    ):
        assert feature.shape == (2, refiner.config.coarse.channels[level], 64 >> level, 96 >> level)
        assert torch.equal(feature[1:], alone)
    values = torch.cat([feature.flatten() for feature in together])
    assert abs(float(values.mean())) < 0.02 and float(values.std()) == pytest.approx(1, abs=0.02)


def test_a_tile_sees_the_coarse_depth_of_its_place(data: Path) -> None:
    """With a head of zeros what comes out is the coarse network's depth, cut where the tile lies."""
    config = configured(data, "refine")
    model = built(config).eval()
    assert isinstance(model.refiner, PatchRefiner)
    torch.nn.init.zeros_(model.refiner.head.to_residual.weight)  # type: ignore[union-attr, arg-type]
    batch = first_batch(config)
    batch["box"] = torch.tensor([[0.5, 0.0, 1.0, 0.5], [0.0, 0.0, 1.0, 1.0]])
    with torch.no_grad():
        whole = model.coarse(batch["image"]).depth
        refined, coarse = refine_tile(model, batch, frozen=True)
    assert torch.allclose(refined, coarse)
    assert torch.allclose(refined[1], whole[1], atol=1e-5)
    corner = whole[0, 0, : PROCESS[0] // 2, PROCESS[1] // 2 :]
    assert torch.allclose(
        refined[0, 0, 1::2, 1::2][:-1, :-1], corner[:-1, :-1], atol=0.05 * float(corner.max())
    )


def test_details_are_the_losses_by_their_names(data: Path) -> None:
    torch.manual_seed(1)
    prediction, pseudo = torch.rand(2, 1, 24, 32) + 1, torch.rand(2, 1, 24, 32) + 1
    pseudo[:, :, :4] = 0
    valid = pseudo > 0
    config = TransferConfig(window=8, exact=True, detail=("gradient-matching",))

    def detail(kind: Any) -> Tensor:
        return detail_loss(kind, prediction, pseudo, [1, 2], config)

    assert detail("ssi") == ssi(prediction, pseudo, valid)
    assert detail("ssigm") == ssigm(prediction, pseudo, valid)
    assert detail("ssigm-local") == ssigm(prediction, pseudo, valid, window=8) != detail("ssigm")
    assert detail("gradient-matching") == gradient_matching(prediction, pseudo, valid, exact=True)
    assert detail("gradient-matching") != gradient_matching(prediction, pseudo, valid)


def test_the_loss_does_not_depend_on_who_shares_the_batch(data: Path) -> None:
    torch.manual_seed(2)
    prediction, truth = torch.rand(2, 1, 8, 8) + 1, torch.rand(2, 1, 16, 16) + 1
    truth[1, :, :8] = 0
    config = configured(data, "refine", losses={"gradient_matching": 0})
    each = [truth_loss(p, t, config)[0] for p, t in zip(prediction.split(1), truth.split(1), strict=True)]
    assert torch.allclose(truth_loss(prediction, truth, config)[0], torch.stack(each).mean())
    pooled = configured(data, "refine", losses={"over": "batch"})
    assert not torch.allclose(truth_loss(prediction, truth, pooled)[0], torch.stack(each).mean())


def test_transfer_learns_detail_from_the_label_and_scale_from_the_truth(data: Path) -> None:
    config = configured(data, "transfer", transfer={"teacher": "unused", "weight": 0.5})
    model = built(config)
    batch = first_batch(config)
    refined, _ = refine_tile(model, batch, frozen=False)
    batch["pseudo"] = 3 * refined.detach() + 2  # the same detail in another unit
    output = transfer_step(model, batch, 0.0, config)
    assert float(output.parts["ssigm"]) < 1e-3 * float(output.parts["silog"])
    assert set(output.pictures) == {"photograph", "coarse", "refined", "pseudo-label", "truth"}


# --- samples --------------------------------------------------------------------------------------------------


def test_samples_are_tiles_of_photographs_with_their_truth(data: Path) -> None:
    plain = {"flip": 0, "rotate": 0, "colour": 0}
    config = configured(data, "refine", augment=plain)
    sample = PhotoSamples(config, 10)[3]
    assert sample["image"].shape == sample["rgb"].shape == (1, 3, *PROCESS)
    assert sample["truth"].shape == (1, 1, *config.sampling.tile)
    left, top, right, bottom = (
        (sample["box"][0] * torch.tensor([SIZE[1], SIZE[0]] * 2)).round().int().tolist()
    )
    assert (bottom - top, right - left) == config.sampling.tile
    found = [np.load(path)[top:bottom, left:right] for path in sorted((data / "depth").iterdir())]
    assert any(np.array_equal(depth, sample["truth"][0, 0]) for depth in found)


def test_an_epoch_takes_every_photograph_once(data: Path) -> None:
    config = configured(data, "coarse", augment={"flip": 0, "rotate": 0, "colour": 0})
    samples = PhotoSamples(config, 2 * PHOTOGRAPHS)
    epochs = [
        [float(samples[k + e * PHOTOGRAPHS]["image"].sum()) for k in range(PHOTOGRAPHS)] for e in (0, 1)
    ]
    assert sorted(epochs[0]) == sorted(epochs[1]) and len(set(epochs[0])) == PHOTOGRAPHS
    assert epochs[0] != epochs[1]


def test_broken_samples_are_told_once_and_skipped(tmp_path: Path) -> None:
    data = write_photographs(tmp_path / "data")
    (data / "images" / "01.png").write_bytes(b"no picture")
    (data / "depth" / "03.npy").unlink()
    told: list[str] = []
    config = configured(data, "refine", steps=8)
    trainer = Trainer(config, tmp_path, CPU, lambda parts: None, tell=told.append)
    assert len(list(trainer._batches())) == 8
    assert sorted(message.partition(" ")[0] for message in told) == ["01", "03"]
    for path in (data / "images").iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(InputError, match="20 samples in a row cannot be used"):
        PhotoSamples(config, 1)[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_missing_unit_is_one_line_from_a_worker_too(tmp_path: Path, workers: int) -> None:
    data = write_photographs(tmp_path / "data")
    config = configured(data, "refine", sampling={"workers": workers})
    config = config.model_copy(update={"data": config.data.model_copy(update={"scale": None})})
    with pytest.raises(UsageError, match=r"does not say its unit.*data\.scale 1") as caught:
        list(Trainer(config, tmp_path, CPU, lambda parts: None)._batches())
    assert "\n" not in str(caught.value)


def test_a_photograph_smaller_than_a_tile_is_left_out(data: Path) -> None:
    config = configured(data, "refine", sampling={"image": None, "tile": [65, 48], "workers": 0})
    with pytest.raises(
        InputError, match=r"64 rows x 96 columns cannot hold a tile of sampling\.tile \[65, 48\]"
    ):
        PhotoSamples(config, 1)[0]


def test_photographs_and_maps_are_turned_together() -> None:
    rng = np.random.default_rng(0)
    rgb = np.zeros((40, 60, 3), np.uint8)
    rgb[10:20, 5:25] = 255
    depth = np.where(rgb[..., 0] > 0, 1.0, 2.0).astype(np.float32)
    settings = AugmentConfig(flip=1, rotate=20, colour=0)
    turned, (moved,) = augment(rgb, [depth], settings, rng)
    inside = ~np.isnan(moved)
    assert 0 < (~inside).sum() < moved.size / 2 and turned.dtype == np.uint8
    agree = (turned[..., 0] > 127) == (moved == 1)
    assert agree[inside].mean() > 0.97  # all but the interpolated border
    assert turned[:, 30:].sum() > turned[:, :30].sum()  # mirrored


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colours_change_within_their_ranges_and_depth_does_not(dtype: Any) -> None:
    grey = np.full((4, 4, 3), np.iinfo(dtype).max // 2, dtype)
    depth = np.ones((4, 4), np.float32)
    only = {"flip": 0.0, "rotate": 0.0, "colour": 1.0}
    brighter = AugmentConfig(**only, gamma=(1, 1), brightness=(1.2, 1.2), balance=(1, 1))
    changed, (same,) = augment(grey, [depth], brighter, np.random.default_rng(0))
    assert changed.dtype == np.float32 and np.allclose(changed, 0.6, atol=0.01)
    assert np.array_equal(same, depth)
    drawn = [augment(grey, [depth], AugmentConfig(**only), np.random.default_rng(i))[0] for i in range(20)]
    assert np.ptp([image.mean() for image in drawn]) > 0.02
    assert all(image.min() >= 0 and image.max() <= 1 for image in drawn)


def test_samples_say_what_could_not_be_used() -> None:
    batch = collate([{"a": torch.zeros(1), BROKEN: [("x", "why")]}, {"a": torch.ones(1)}])
    assert batch["a"].tolist() == [0, 1] and batch[BROKEN] == [("x", "why")]


def test_the_relative_error_of_a_hopeless_pixel_grows_slowly():
    ratio = torch.tensor([0.0, math.log(2), -math.log(2), 2.0, 5.0], requires_grad=True)
    error = _relative_error(ratio)
    assert error.tolist() == pytest.approx(
        [0, 1, 0.5, math.e**2 - 1, math.e**2 - 1 + 3 * math.e**2], rel=1e-5
    )
    error.sum().backward()
    assert ratio.grad is not None
    assert ratio.grad[-1] == pytest.approx(math.e**2, rel=1e-5)  # not e^5
