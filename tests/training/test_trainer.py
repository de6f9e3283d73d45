"""The training loop: precisions, accumulation, schedule, processes, kills, full disks, evaluation, logs."""

from __future__ import annotations

import contextlib
import errno
import io
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from training_runs import REFINER, read_log, settings, write_config, write_photographs
from zoedepth_settings import SETTINGS as ZOEDEPTH

from prv2cli.checkpoints.model_file import read_checkpoint
from prv2cli.cli import app
from prv2cli.errors import (
    CheckpointError,
    ConfigError,
    DeviceError,
    DiskFullError,
    MissingExtraError,
    Prv2Error,
    UsageError,
)
from prv2cli.files import atomic
from prv2cli.model.build import build_model
from prv2cli.training.config.run import TrainConfig
from prv2cli.training.distributed import World, join_world
from prv2cli.training.evaluate import Evaluator
from prv2cli.training.logs import RunLog, picture_strip
from prv2cli.training.optimise import Ema, rates
from prv2cli.training.state import read_state, write_state
from prv2cli.training.trainer import Trainer, fit, resolve
from prv2cli.training.workers import unpacked

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("photographs"))


def configured(data: Path, stage: str = "coarse", **changes: Any) -> TrainConfig:
    return TrainConfig.model_validate(settings(data, stage, **changes))


def losses(config: TrainConfig, out: Path, **options: Any) -> list[float]:
    found: list[float] = []
    fit(config, out, device=CPU, report=lambda parts: found.append(parts.get("loss", math.nan)), **options)
    return found


# --- schedule and mean ----------------------------------------------------------------------------------------


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


def test_without_a_decay_the_mean_is_the_model() -> None:
    model = nn.Linear(2, 2)
    ema = Ema(model, 0)
    ema.update(model, 3)
    assert ema.model is model


# --- steps ----------------------------------------------------------------------------------------------------


def test_accumulated_batches_learn_what_one_large_batch_does(data: Path, tmp_path: Path) -> None:
    same: dict[str, Any] = {"batchnorm": "frozen", "steps": 3}
    large = losses(configured(data, "refine", batch_size=4, **same), tmp_path / "large")
    small = losses(configured(data, "refine", batch_size=2, accumulate=2, **same), tmp_path / "small")
    assert small == pytest.approx(large, rel=1e-5)


def test_half_precision_learns_about_the_same(data: Path, tmp_path: Path) -> None:
    whole = losses(configured(data, "coarse", steps=2), tmp_path / "fp32")
    for precision in ("bf16", "fp16"):
        half = losses(configured(data, "coarse", steps=2, precision=precision), tmp_path / precision)
        assert half != whole and half == pytest.approx(whole, rel=0.05)
        state = read_state(tmp_path / precision, CPU)
        assert bool(state["scaler"]) == (precision == "fp16")


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch hides it, unless warnings are errors
def test_compiled_parts_compute_the_same(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the code generator, which needs a compiler: what is tested is that all parts can be captured."""
    called: list[str] = []

    def compile(self: nn.Module, *_: Any, **__: Any) -> None:
        called.append(type(self).__name__)
        self._compiled_call_impl = torch.compile(self._call_impl, backend="eager")

    monkeypatch.setattr(nn.Module, "compile", compile)
    plain = losses(configured(data, "coarse", steps=2), tmp_path / "plain")
    compiled = losses(configured(data, "coarse", steps=2, compile=True), tmp_path / "compiled")
    assert called and compiled == pytest.approx(plain, rel=1e-5)
    names = [
        set(read_checkpoint(tmp_path / run / "last.safetensors").tensors) for run in ("plain", "compiled")
    ]
    assert names[0] == names[1]


def test_gradients_that_are_not_finite_are_skipped_and_counted(data: Path, tmp_path: Path) -> None:
    config = configured(data, steps=4, optimiser={"ema": 0})
    trainer = Trainer(config, tmp_path, CPU, lambda parts: reports.append(parts))
    reports: list[dict[str, Any]] = []
    weight = next(p for p in trainer.model.parameters() if p.ndim == 4)
    spoilt = {2, 3}  # steps, from 1

    def spoil(gradient: torch.Tensor) -> torch.Tensor:
        return gradient * math.inf if trainer.step + 1 in spoilt else gradient

    weight.register_hook(spoil)
    trainer.run()
    assert ["loss" in parts for parts in reports] == [True, False, False, True]
    assert [parts["skipped"] for parts in reports if "skipped" in parts] == [1, 2]
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())
    assert trainer.skipped == 2 and read_state(tmp_path, CPU)["skipped"] == 2


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"data": {"scale": None}}, 2, "does not say its unit; give its numbers per metre: data.scale"),
        ({"data": {"images": "depth", "depths": "images"}}, 1, "no photograph in"),
        (
            {"sampling": {"image": None, "tile": [65, 97], "workers": 1}},
            1,
            "20 samples in a row cannot be used",
        ),
    ],
)
def test_what_is_wrong_with_the_samples_is_told_without_a_traceback(
    changes: dict[str, Any], code: int, message: str, data: Path, tmp_path: Path, capsys: Any
) -> None:
    """They are made in other processes."""
    config = write_config(tmp_path / "run.yaml", data, "refine", **{"sampling": {"workers": 1}, **changes})
    assert app._run(["train", "--config", str(config), "-o", str(tmp_path / "run"), "-q"], False) == code
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and error.startswith("error: ")


def test_a_killed_worker_is_told_and_other_errors_stay_what_they_are() -> None:
    def batches(message: str) -> Any:
        yield {"a": 1}
        raise RuntimeError(message)

    with pytest.raises(Prv2Error, match=r"killed.*sampling\.workers"):
        list(unpacked(batches("DataLoader worker (pid(s) 7) exited unexpectedly")))
    with pytest.raises(RuntimeError, match="sizes do not match"):
        list(unpacked(batches("sizes do not match")))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_out_of_memory_says_what_to_lower(
    error: Exception, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(configured(data), tmp_path, CPU, lambda parts: None)

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(trainer, "forward", fail)
    with pytest.raises(DeviceError, match=r"cpu ran out of memory; lower batch_size \(now 2"):
        trainer.run()


def test_a_run_without_end_is_refused(data: Path) -> None:
    for changes in ({"steps": 10**18, "batch_size": 100}, {"batch_size": 10**20}, {"accumulate": 10**20}):
        with pytest.raises(ConfigError, match="steps: so many"):
            resolve(configured(data, **changes), World())


# --- processes and kills --------------------------------------------------------------------------------------


def in_processes(mode: str, out: Path, config: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        str(ROOT / "tests" / "support" / "training_runs.py"),
        mode,
        str(out),
        str(config),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="starts processes by fork")
def test_a_run_killed_at_any_moment_goes_on_bit_for_bit(data: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"steps": 8, "save_every": 1, "optimiser": {"coarse_lr": 1e-4}}
    config = write_config(tmp_path / "run.yaml", data, "refine", **changes)
    in_processes("kill", tmp_path / "killed", config)
    losses(configured(data, "refine", **changes), tmp_path / "whole")
    assert read_log(tmp_path / "killed") == read_log(tmp_path / "whole")
    first, second = (
        read_checkpoint(tmp_path / run / "last.safetensors").tensors for run in ("killed", "whole")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="starts processes by fork")
def test_two_processes_learn_what_one_with_twice_the_batch_does(data: Path, tmp_path: Path) -> None:
    """With ZoeDepth, some weights of which are never used. BatchNorm is frozen: each process sees half of a batch."""
    pytest.importorskip("transformers")
    zoe = {**ZOEDEPTH, "backbone_config": {**ZOEDEPTH["backbone_config"], "drop_path_rate": 0.0}}
    coarse = {"kind": "zoedepth", "transformers": zoe, "input_size": [64, 96]}
    refiner = {**REFINER, "coarse": {"kind": "external", "channels": [6, 12, 12, 12, 12, 12]}}
    model = {"process_size": [64, 96], "coarse": coarse, "refiner": refiner}
    changes: dict[str, Any] = {"steps": 3, "batchnorm": "frozen", "model": model}
    config = write_config(tmp_path / "pair.yaml", data, "refine", batch_size=2, **changes)
    in_processes("pair", tmp_path / "pair", config)
    together = losses(configured(data, "refine", batch_size=4, **changes), tmp_path / "one")
    pair = [line["loss"] for line in read_log(tmp_path / "pair")]
    assert pair == pytest.approx(together, rel=1e-5)
    assert len(set(pair)) == 3
    resumed = TrainConfig.model_validate(settings(data, "refine", batch_size=2, **changes))
    with pytest.raises(ConfigError, match=r"has 2 process\(es\), not 1"):
        fit(resumed, tmp_path / "pair", device=CPU, resume=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="starts processes by fork")
def test_a_loss_that_is_nan_in_one_process_is_skipped_by_all(data: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"steps": 4, "accumulate": 2, "batchnorm": "frozen"}
    in_processes("spoilt", tmp_path / "run", write_config(tmp_path / "run.yaml", data, "refine", **changes))
    log = read_log(tmp_path / "run")
    assert ["loss" in line for line in log] == [True, False, True, True] and log[1]["skipped"] == 1
    assert all(math.isfinite(line["loss"]) for line in log if "loss" in line)


def test_several_processes_are_torchruns(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match=r"WORLD_SIZE is 2 .*RANK is not set; .*torchrun"), join_world("cpu"):
        pytest.fail("there is no second process")


@pytest.mark.parametrize(("world", "times"), [(World(0, 4, 0), 1), (World(1, 4, 1), 0), (World(2, 4, 0), 1)])
def test_every_machine_makes_the_scenes_that_it_lacks(
    world: World, times: int, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[bool] = []
    monkeypatch.setattr("prv2cli.training.trainer.prepare_scenes", lambda *_: made.append(True))
    monkeypatch.setattr(
        "prv2cli.training.trainer.Trainer", lambda *_, **__: SimpleNamespace(run=lambda: None)
    )
    monkeypatch.setattr(World, "wait", lambda _: None)
    fit(configured(data), tmp_path, device=CPU, world=world)
    assert len(made) == times


def test_processes_share_the_samples_without_overlap(data: Path, tmp_path: Path) -> None:
    config = configured(data, "coarse", batch_size=2, steps=2, accumulate=2)
    seeds = []
    for rank in range(2):
        trainer = Trainer(config, tmp_path, CPU, lambda parts: None)
        trainer.world = World(rank, 2)
        seeds.append([batch["seed"].tolist() for batch in trainer._batches()])
    alone = Trainer(config.model_copy(update={"batch_size": 4}), tmp_path, CPU, lambda parts: None)
    for mine, others, whole in zip(
        *seeds, [batch["seed"].tolist() for batch in alone._batches()], strict=True
    ):
        assert [mine[0], others[0], mine[1], others[1]] == whole


# --- saving ---------------------------------------------------------------------------------------------------


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """While its one value is True, files are written to a device without any space."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    full, real = [False], atomic._open_temp

    def open_temp(path: Path) -> tuple[Path, Any]:
        temp, file = real(path)
        if not full[0]:
            return temp, file
        file.close()
        return temp, open("/dev/full", "r+b", buffering=0)  # noqa: PTH123

    monkeypatch.setattr(atomic, "_open_temp", open_temp)
    return full


def test_a_full_disk_leaves_the_old_checkpoint_and_the_run_goes_on(
    data: Path, tmp_path: Path, full_disk: list[bool]
) -> None:
    told: list[str] = []
    config = configured(data, steps=4, save_every=1)

    def report(parts: dict[str, Any]) -> None:
        full_disk[0] = parts["step"] in (2, 3)

    fit(config, tmp_path, device=CPU, report=report, tell=told.append)
    assert len(told) == 2 and all("no space left" in message for message in told)
    assert "step 2 could not be saved" in told[0] and "step 1 is kept, the run goes on" in told[0]
    assert read_state(tmp_path, CPU)["step"] == 4
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_full_disk_at_the_end_is_an_error_and_the_old_checkpoint_stays(
    data: Path, tmp_path: Path, full_disk: list[bool]
) -> None:
    config = configured(data, steps=2, save_every=1)

    def report(parts: dict[str, Any]) -> None:
        full_disk[0] = parts["step"] == 2

    with pytest.raises(DiskFullError, match=r"last\.safetensors: no space left"):
        fit(config, tmp_path, device=CPU, report=report)
    assert read_state(tmp_path, CPU)["step"] == 1
    assert read_checkpoint(tmp_path / "last.safetensors").provenance["step"] == 1


def test_the_state_says_no_space_is_left_though_torchs_writer_does_not(
    tmp_path: Path, full_disk: list[bool]
) -> None:
    full_disk[0] = True
    with pytest.raises(DiskFullError, match=r"state\.pt: no space left"):
        write_state(tmp_path / "state.pt", {"a": torch.zeros(10_000)})
    assert list(tmp_path.iterdir()) == []


def test_a_log_on_a_full_disk_does_not_end_the_run(data: Path, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    told: list[str] = []
    assert len(losses(configured(data, evaluation=evaluation(data)), tmp_path, tell=told.append)) == 3
    (message,) = told
    assert "log.jsonl: no space left" in message and "the run goes on" in message
    assert read_state(tmp_path, CPU)["step"] == 3


class _Tight(io.FileIO):
    """A file on a disk that has so many bytes."""

    room = 1000

    def write(self, data: Any) -> int:
        return super().write(data[: max(0, self.room - self.seek(0, os.SEEK_END))])


def test_lines_of_the_log_are_whole_whatever_room_there_is(data: Path, tmp_path: Path) -> None:
    told: list[str] = []
    log = RunLog(tmp_path, configured(data), told.append)
    log.step({"step": 1, "loss": 1.0})
    assert log._file is not None
    log._file.close()
    log._file = file = _Tight(tmp_path / "log.jsonl", "ab")  # type: ignore[assignment]
    for step, room in enumerate([40, 45, 1000, 60, 1000], start=2):  # a line takes 25
        file.room = room
        log.step({"step": step, "loss": 1.0})
    log.close()
    assert [line["step"] for line in read_log(tmp_path)] == [1, 4, 6]
    assert len(told) == 2  # at the beginning of each shortage


def test_the_lines_of_tensorboard_end_on_a_full_disk_and_the_run_does_not(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def add_scalar(self, *_: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("prv2cli.training.logs.import_tensorboard", lambda: Full)
    told: list[str] = []
    assert len(losses(configured(data, tensorboard=True), tmp_path, tell=told.append)) == 3
    assert len(told) == 1 and "tensorboard: no space left" in told[0]


def test_a_log_that_cannot_be_kept_is_not_lost(data: Path, tmp_path: Path, full_disk: list[bool]) -> None:
    """What a resumed run keeps of the log is written whole or not at all."""
    losses(configured(data), tmp_path)
    before = (tmp_path / "log.jsonl").read_bytes()
    full_disk[0] = True
    with pytest.raises(DiskFullError, match=r"log\.jsonl: no space left"):
        RunLog(tmp_path, configured(data), lambda message: None).step({"step": 3, "loss": 1.0})
    assert (tmp_path / "log.jsonl").read_bytes() == before


def test_what_a_run_killed_while_saving_left_is_removed(data: Path, tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    leftover = tmp_path / f".state.pt.{atomic._machine()}-{ended.pid}-0{atomic.TEMP_SUFFIX}"
    leftover.write_bytes(b"half")
    losses(configured(data, steps=1), tmp_path)
    assert not leftover.exists()


def test_a_run_that_will_be_replaced_is_told_of(data: Path, tmp_path: Path) -> None:
    told: list[str] = []
    losses(configured(data, steps=2), tmp_path, tell=told.append)
    losses(configured(data, steps=2), tmp_path, tell=told.append, resume=True)
    assert not told
    losses(configured(data, steps=2), tmp_path, tell=told.append)
    assert len(told) == 1 and str(tmp_path) in told[0] and "--resume" in told[0]


def test_resume_names_the_setting_that_differs(data: Path, tmp_path: Path) -> None:
    losses(configured(data), tmp_path)
    for changes, message in (
        ({"optimiser": {"lr": 0.5}}, r"optimiser\.lr is 0\.5, there 0\.001"),
        ({"evaluation": evaluation(data)}, r"evaluation is \{.*\}, there None"),
        ({"sampling": {"tile": [32, 32]}}, r"sampling\.tile is \[32, 32\], there \[32, 48\]"),
    ):
        with pytest.raises(ConfigError, match=f"--resume: .*{message}"):
            fit(configured(data, **changes), tmp_path, device=CPU, resume=True)
    state = read_state(tmp_path, CPU)
    write_state(
        tmp_path / "state.pt", {**state, "config": state["config"].replace('"lr"', '"learning_rate"')}
    )
    with pytest.raises(ConfigError, match=r"--resume: .* version of prv2 .* start_from="):
        fit(configured(data), tmp_path, device=CPU, resume=True)


@pytest.mark.parametrize("fault", ["cut", "changed", "other"])
def test_a_damaged_state_is_refused(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "state.pt"
    write_state(path, {"a": torch.arange(1000)})
    content = bytearray(path.read_bytes())
    if fault == "cut":
        content = content[: len(content) // 2]
    elif fault == "changed":
        content[len(content) // 2] ^= 1
    else:
        content = bytearray(b"something else")
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"--resume: .*state\.pt is damaged"):
        read_state(tmp_path, CPU)


# --- evaluation and logs --------------------------------------------------------------------------------------


def evaluation(data: Path, **changes: Any) -> dict[str, Any]:
    folder = {"layout": "folder", "root": str(data), "scale": 1.0}
    return {"data": folder, "every": 2, "limit": 2, "measure": {"boundaries": False}, **changes}


@pytest.mark.parametrize("stage", ["coarse", "noisy-pretrain", "refine"])
def test_every_stage_is_evaluated_and_its_best_kept(data: Path, tmp_path: Path, stage: str) -> None:
    config = configured(data, stage, steps=3, evaluation=evaluation(data, best="delta1"))
    measured = losses(config, tmp_path / "run")
    if stage == "coarse":  # looking does not change what is learned
        assert measured == losses(configured(data, stage, steps=3), tmp_path / "plain")
    found = [line for line in read_log(tmp_path / "run") if "evaluation" in line]
    assert [line["step"] for line in found] == [2, 3]
    figures = [line["evaluation"]["refined"] for line in found]
    assert all(math.isfinite(one["rmse"]) and 0 <= one["delta1"] <= 1 for one in figures)
    best = read_checkpoint(tmp_path / "run" / "best.safetensors")
    expected = max(found, key=lambda line: line["evaluation"]["refined"]["delta1"])["step"]
    assert best.provenance["step"] == expected
    assert read_state(tmp_path / "run", CPU)["best"] == -max(one["delta1"] for one in figures)


def test_what_cannot_be_measured_is_told_at_the_first_evaluation_only(tmp_path: Path) -> None:
    data = write_photographs(tmp_path / "data")
    (data / "depth" / "01.npy").unlink()
    told: list[str] = []
    config = configured(data, "coarse", steps=3, evaluation=evaluation(data, every=1))
    evaluator = Evaluator(config, config.model, CPU, told.append)
    model = build_model(config.model)
    for _ in range(2):
        assert len(evaluator.measure(model).images) == 1
    assert [line.partition(" ")[0] for line in told] == ["01"]


def test_a_figure_that_cannot_be_measured_is_told(data: Path, tmp_path: Path) -> None:
    told: list[str] = []
    settings = evaluation(data, best="edge_f1", measure={"boundaries": False})
    losses(configured(data, steps=2, evaluation=settings), tmp_path, tell=told.append)
    assert told == ["evaluation.best: edge_f1 could not be measured at step 2"]
    assert not (tmp_path / "best.safetensors").exists()


def test_a_worse_model_does_not_replace_the_best(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([3.0, 1.0, 2.0])
    monkeypatch.setattr("prv2cli.training.evaluate.Evaluator.score", lambda *_: next(scores))
    losses(configured(data, steps=3, evaluation=evaluation(data, every=1)), tmp_path)
    assert read_checkpoint(tmp_path / "best.safetensors").provenance["step"] == 2


def test_tensorboard_has_the_numbers_and_the_pictures(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    changes: dict[str, Any] = {"tensorboard": True, "picture_every": 2, "evaluation": evaluation(data)}
    losses(configured(data, "refine", steps=2, **changes), tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    logged = [line["loss"] for line in read_log(tmp_path) if "loss" in line]
    assert [event.value for event in events.Scalars("train/loss")] == pytest.approx(logged)
    assert [event.step for event in events.Scalars("evaluation/refined/rmse")] == [2]
    (image,) = events.Images("training sample")
    assert (image.step, image.height, image.width) == (2, 32, 4 * 64)  # photograph, coarse, refined, truth


def test_tensorboard_is_asked_for_by_its_extra(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    config = write_config(tmp_path / "run.yaml", data, "coarse", tensorboard=True)
    assert app._run(["train", "--config", str(config), "-o", str(tmp_path / "run"), "-q"], False) == 1
    assert "pip install 'prv2cli[train]'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    with pytest.raises(MissingExtraError):
        fit(configured(data, tensorboard=True), tmp_path / "run", device=CPU)
    assert losses(configured(data, steps=1), tmp_path / "without")  # nobody else asks for it


def test_a_picture_shows_four_views_side_by_side() -> None:
    depth = torch.ones(1, 8, 12)
    views = {"photograph": torch.zeros(3, 16, 24), "coarse": depth, "refined": 2 * depth, "truth": 0 * depth}
    strip = picture_strip(views)
    assert strip.shape == (16, 4 * 24, 3) and strip.dtype == np.uint8
    near, far, none = strip[5, 30], strip[5, 54], strip[5, 78]
    assert near.sum() > far.sum() and tuple(none) == (128, 128, 128)


def test_progress_is_told_in_images(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("prv2cli.cli.ui.SECONDS_BETWEEN_LINES", 0.0)
    config = write_config(tmp_path / "run.yaml", data, "coarse", steps=4)
    with contextlib.suppress(Prv2Error):
        assert app._run(["train", "--config", str(config), "-o", str(tmp_path / "run")], False) == 0
    error = capsys.readouterr().err
    assert "step 2 of 4, loss " in error and "images/s" in error and "min left" in error
