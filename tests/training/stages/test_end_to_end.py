"""A bundle end to end, and its transfer from a teacher or from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from training_loop import CPU, built, configured, first_batch, train
from training_runs import (
    PHOTOGRAPHS,
    PROCESS,
    SIZE,
    read_log,
)

from prv2cli.checkpoints.model_file import read_checkpoint
from prv2cli.cli import app
from prv2cli.model.build import Bundle
from prv2cli.model.config import BundleConfig
from prv2cli.model.refiner.patchrefiner import PatchRefiner
from prv2cli.training.config.losses import TransferConfig
from prv2cli.training.loop.batches import batches
from prv2cli.training.loop.distributed import World
from prv2cli.training.losses.detail import ssi, ssigm
from prv2cli.training.losses.differences import gradient_matching
from prv2cli.training.stages.end_to_end import detail_loss, end_to_end_step, refine_tile, transfer_step


def test_an_end_to_end_run_is_a_bundle_for_refine(runs: Path, data: Path, tmp_path: Path) -> None:
    bundle = runs / "refine" / "last.safetensors"
    assert isinstance(read_checkpoint(bundle).config, BundleConfig)
    photograph, out = data / "images" / "00.png", tmp_path / "depth.npy"
    assert (
        app._run(["refine", str(photograph), "-m", str(bundle), "-o", str(out), "--device", "cpu"], False)
        == 0
    )
    depth = np.load(out)
    assert depth.shape == SIZE
    assert (depth > 0).all()
    numbers = read_log(runs / "refine")
    assert all(np.isfinite(list(line.values())).all() for line in numbers)
    assert {"loss", "silog", "coarse_silog", "lr"} <= set(numbers[0])


def test_every_parameter_of_a_bundle_learns(data: Path) -> None:
    config = configured(data, "refine", transfer={})
    model = built(config)
    end_to_end_step(model, first_batch(config), 0.0, config).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{name} is never used: DDP would wait for it"


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
    for moved in batches(config, World(), CPU, told.append, done=0):
        levels = moved["pseudo"].flatten(1)
        assert set(levels.unique().tolist()) <= {0.0, 2.0, 3.0, 4.0, 5.0}  # 0: turned in from outside
    assert len(told) == 1
    assert "04" in told[0]
    assert "no pseudo-label" in told[0]


def test_a_teacher_must_see_the_same_tiles(runs: Path, data: Path, tmp_path: Path, capsys: Any) -> None:
    teacher = str(runs / "refine" / "last.safetensors")
    changes = {"model": {"process_size": [64, 64]}, "transfer": {"teacher": teacher}}
    train(tmp_path, data, "transfer", 2, **changes)
    assert "transfer.teacher" in (error := capsys.readouterr().err)
    assert str(list(PROCESS)) in error
    wrong = str(runs / "coarse" / "last.safetensors")
    train(tmp_path, data, "transfer", 1, transfer={"teacher": wrong})
    assert "cannot refine" in capsys.readouterr().err


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


def test_transfer_learns_detail_from_the_label_and_scale_from_the_truth(data: Path) -> None:
    config = configured(data, "transfer", transfer={"teacher": "unused", "weight": 0.5})
    model = built(config)
    batch = first_batch(config)
    refined, _ = refine_tile(model, batch, frozen=False)
    batch["pseudo"] = 3 * refined.detach() + 2  # the same detail in another unit
    output = transfer_step(model, batch, 0.0, config)
    assert float(output.parts["ssigm"]) < 1e-3 * float(output.parts["silog"])
    assert set(output.pictures) == {"photograph", "coarse", "refined", "pseudo-label", "truth"}
