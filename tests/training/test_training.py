"""Training: settings refused in time, runs that resume bit for bit, losses and schedules as written down."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from prv2cli.checkpoints.model_file import read_checkpoint
from prv2cli.cli import app
from prv2cli.errors import ConfigError, Prv2Error
from prv2cli.model.config import LiteConfig, RefinerConfig
from prv2cli.scenes.make import Style, make_scene
from prv2cli.training.config.load import load_train_config
from prv2cli.training.config.run import TrainConfig
from prv2cli.training.config.scenes import SceneDataConfig
from prv2cli.training.losses.residual import drift_loss, edge_loss, weighted_residual_loss
from prv2cli.training.losses.truth import silog
from prv2cli.training.optimise import Ema, learning_rate
from prv2cli.training.samples.photos import PhotoSamples, PooledScenes
from prv2cli.training.samples.procedural import (
    CoarseSamples,
    RefineSamples,
    Sample,
    ScenePool,
    _make_and_save,
)
from prv2cli.training.stages import STAGES, Stage, StepOutput, stage_of
from prv2cli.training.stages.given import _reduce_depth
from prv2cli.training.trainer import MAX_SKIPPED_IN_A_ROW, Trainer, first_batch, fit

CONFIGS = Path(__file__).parents[2] / "configs"
STAGE_CONFIGS = {"refine": CONFIGS / "refiner-s.yaml", "coarse": CONFIGS / "lite.yaml"}
CPU = torch.device("cpu")
SCENES = 4


# --- settings ---------------------------------------------------------------------------------------------


def test_overrides_change_what_they_name() -> None:
    config = load_train_config(STAGE_CONFIGS["refine"], ["optimiser.lr=1e-4", "steps=7", "data.cache=a/b"])
    assert (config.optimiser.lr, config.steps, config.data.cache) == (1e-4, 7, Path("a/b"))
    untouched = load_train_config(STAGE_CONFIGS["refine"])
    assert config.optimiser.weight_decay == untouched.optimiser.weight_decay


WRONG_OVERRIDES = {
    "stepz=3": r"stepz: no such setting; did you mean steps .*\(got 3\)",
    "zzz=3": "zzz: no such setting; there are stage, model, .*picture_every",
    "optimiser.lrr=3": r"optimiser\.lrr: .*did you mean lr\?",
    "model.c2f.wide=3": r"model\.c2f\.wide: .*did you mean widths\?",
    "steps=many": "steps.*integer.*'many'",
    "steps=0": r"steps.*greater than 0.*\(got 0\)",
    "optimiser.lr=-1": r"optimiser\.lr.*greater than 0",
    "optimiser.ema=1": r"optimiser\.ema.*less than 1",
    "degrade.drop_thin=2": r"degrade\.drop_thin",
    "stage=everything": "stage.*'coarse'.*'transfer'.*'everything'",
    "stage=coarse": "stage: coarse trains a model of kind lite or dav2 or zoedepth, not refiner",
    "precision=fp8": "precision.*'fp32', 'bf16' or 'fp16'",
    "model.kind=huge": "model.*'refiner', 'lite'",
    "model.encoder.levels=2": r"coarse\.channels must match encoder\.levels: 3 levels",
    "model.encoder.space_to_depth=3": r"space_to_depth.*1, 2 or 4",
    "data.tile=1024": r"data\.tile \(1024\) is larger than data\.size",
    "data.tile=100": r"data\.tile must be a multiple of \d+, not 100",
    "data.scenes=": r"data\.scenes",
    "nonsense": "'nonsense' is not an override; write key=value",
    "=3": "not an override",
    "optimiser.lr=[1": r"optimiser\.lr=\[1.*not readable YAML",
    "steps=true": r"steps",
    "degrade.factor=[16, 4]": r"degrade.*factor must be two numbers",
    "steps.x=3": "steps is a value, not a group",
}


@pytest.mark.parametrize("override", WRONG_OVERRIDES)
def test_a_wrong_setting_is_refused_by_its_name(override: str) -> None:
    with pytest.raises(ConfigError, match=WRONG_OVERRIDES[override]) as raised:
        load_train_config(STAGE_CONFIGS["refine"], [override])
    assert "\n" not in str(raised.value)


WRONG_FILES = {
    "list": (b"- 1\n- 2\n", "expected settings.*found list"),
    "text": (b"just words", "expected settings.*found str"),
    "empty": (b"", "expected settings.*found NoneType"),
    "no YAML": (b"steps: [1\n", "not a readable YAML file"),
    "binary": (b"\xff\xfe\x00\x81", "not a readable YAML file"),
    "no stage": (b"steps: 1", "stage.*required"),
}


@pytest.mark.parametrize("case", WRONG_FILES)
def test_a_wrong_file_is_refused_by_its_name(case: str, tmp_path: Path) -> None:
    content, pattern = WRONG_FILES[case]
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"config\\.yaml: {pattern}") as raised:
        load_train_config(path)
    assert "\n" not in str(raised.value)


def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--config .*nowhere\.yaml: no such file"):
        load_train_config(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match="not a readable YAML file"):
        load_train_config(tmp_path)


# --- whole runs -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few small scenes, made as a run makes them: by a process of its own."""
    pytest.importorskip("cv2")
    folder = tmp_path_factory.mktemp("scenes")
    calls: list[tuple[int, int]] = []
    _pool(folder).make(1, lambda done, total: calls.append((done, total)))
    assert calls == [(i, SCENES) for i in range(1, SCENES + 1)]
    return folder


def _pool(folder: Path) -> ScenePool:
    data = load_train_config(STAGE_CONFIGS["coarse"], _overrides(folder)).data
    assert isinstance(data, SceneDataConfig)
    return ScenePool(data)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def _overrides(cache: Path, **changes: object) -> list[str]:
    settings = {
        "steps": 3,
        "batch_size": 2,
        "log_every": 1,
        "save_every": 2,
        "device": "cpu",
        "data.cache": cache,
        "data.scenes": SCENES,
        "data.still_lifes": 0,
        "data.seed": 1,
        "data.size": 128,
        "data.tile": 128,
        "data.workers": 0,
    }
    return [f"{key}={value}" for key, value in {**settings, **changes}.items()]


def _train(stage: str, out: Path, cache: Path, *flags: str, **changes: object) -> int:
    config = str(STAGE_CONFIGS[stage])
    return app._run(
        ["train", "--config", config, "-o", str(out), "-q", *flags, *_overrides(cache, **changes)], False
    )


def _log(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def _without_time(log: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{key: value for key, value in line.items() if key != "seconds"} for line in log]


@pytest.mark.parametrize("stage", STAGE_CONFIGS)
def test_a_run_leaves_a_model_and_a_log(stage: str, cache: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "run"
    assert _train(stage, out, cache) == 0
    assert capsys.readouterr() == ("", "")  # -q
    checkpoint = read_checkpoint(out / "last.safetensors")
    assert checkpoint.config == load_train_config(STAGE_CONFIGS[stage]).model
    assert isinstance(checkpoint.build(), nn.Module)
    assert (checkpoint.provenance["stage"], checkpoint.provenance["step"]) == (stage, 3)
    log = _log(out)
    assert [line["step"] for line in log] == [1, 2, 3]
    for line in log:
        assert {"loss", "lr", "seconds"} < set(line)
        assert all(math.isfinite(value) for value in line.values())
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_a_resumed_run_is_the_uninterrupted_run_bit_for_bit(cache: Path, tmp_path: Path) -> None:
    """Stopped at step 3, after the save at step 2, with a line of the log half-written."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    run: dict[str, Any] = {"steps": 4, "data.tile": 128}
    assert _train("refine", whole, cache, **run) == 0
    _stop_at(3, stopped, load_train_config(STAGE_CONFIGS["refine"], _overrides(cache, **run)))
    lines = (whole / "log.jsonl").read_text().splitlines(keepends=True)
    (stopped / "log.jsonl").write_text("".join(lines[:3]) + '{"step": 4, "lo')
    assert _train("refine", stopped, cache, "--resume", **run) == 0
    assert _without_time(_log(stopped)) == _without_time(_log(whole))
    _check_same_weights(stopped, whole)


def _stop_at(step: int, out: Path, config: TrainConfig) -> None:
    def report(parts: dict[str, Any]) -> None:
        if parts["step"] == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(config, out, device=CPU, report=report)


def _check_same_weights(a: Path, b: Path) -> None:
    first, second = (read_checkpoint(folder / "last.safetensors").tensors for folder in (a, b))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    states = [torch.load(folder / "state.pt", weights_only=True) for folder in (a, b)]
    for kind in ("model", "ema"):
        assert all(torch.equal(states[0][kind][name], states[1][kind][name]) for name in states[0][kind])
    assert states[0]["step"] == states[1]["step"]


def test_resume_needs_a_saved_run_of_the_same_settings(cache: Path, tmp_path: Path, capsys: Any) -> None:
    assert _train("coarse", tmp_path / "new", cache, "--resume") == 2
    assert "--resume" in (error := capsys.readouterr().err) and "nothing was saved" in error
    out = tmp_path / "run"
    assert _train("coarse", out, cache, steps=2) == 0
    before = _log(out)
    assert _train("coarse", out, cache, "--resume", steps=2, seed=9) == 2
    assert "the settings differ" in capsys.readouterr().err
    assert _log(out) == before  # a refused run leaves the log alone


def test_a_model_can_be_the_start_of_another_run(cache: Path, tmp_path: Path, capsys: Any) -> None:
    config = load_train_config(STAGE_CONFIGS["coarse"], _overrides(cache))
    trainer = Trainer(config, tmp_path, CPU, lambda parts: None)
    trainer.save()
    start = tmp_path / "last.safetensors"
    again = load_train_config(STAGE_CONFIGS["coarse"], _overrides(cache, seed=2, start_from=start))
    loaded = Trainer(again, tmp_path, CPU, lambda parts: None).model.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in read_checkpoint(start).tensors.items())
    assert _train("refine", tmp_path / "other", cache, start_from=start) == 2
    assert "another architecture" in capsys.readouterr().err


def test_without_opencv_the_extra_is_named(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert _train("refine", tmp_path / "run", cache) == 1
    assert "pip install 'prv2cli[train]'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_model_that_cannot_be_built_is_refused_before_scenes_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(ScenePool, "make", lambda *_: pytest.fail("scenes were made"))
    assert _train("coarse", tmp_path / "run", tmp_path, **{"model.encoder": "mobilenet_of_mine"}) == 2
    assert "mobilenet_of_mine" in capsys.readouterr().err


def test_a_run_needs_a_folder_of_its_own(cache: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "file").touch()
    assert _train("refine", tmp_path / "file", cache) == 1
    assert "--out" in capsys.readouterr().err


# --- the loop ---------------------------------------------------------------------------------------------


class _Blanks(Dataset[Sample]):
    def __init__(self, config: TrainConfig, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        return {"rgb": torch.zeros(1, 3, 4, 4)}


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[Trainer, list[dict]]]:
    """A trainer of stage `coarse` whose loss is that of one number, and NaN in the steps that are named."""

    def make(steps: int, broken: range) -> tuple[Trainer, list[dict]]:
        def step(
            model: nn.Module, batch: dict[str, Tensor], progress: float, config: TrainConfig
        ) -> StepOutput:
            loss = model.weight.square().sum()  # type: ignore[operator, union-attr]
            return StepOutput(loss * math.nan if round(progress * steps) in broken else loss, {})

        monkeypatch.setitem(STAGES, ("coarse", True), Stage(_Blanks, step))
        monkeypatch.setattr("prv2cli.training.trainer.build_to_train", lambda *_: nn.Linear(2, 1, bias=False))
        reports: list[dict] = []
        data = {"workers": 0}
        config = TrainConfig(
            stage="coarse", model=LiteConfig(), steps=steps, batch_size=1, save_every=99, data=data
        )  # type: ignore[arg-type]
        return Trainer(config, tmp_path, CPU, reports.append), reports

    return make


def test_a_step_without_a_finite_loss_is_skipped(loop: Any) -> None:
    trainer, reports = loop(4, range(1, 3))
    weights = []
    trainer.report = lambda parts: (
        reports.append(parts),
        weights.append(trainer.model.weight.detach().clone()),
    )
    trainer.run()
    assert ["loss" in parts for parts in reports] == [True, False, False, True]
    assert torch.equal(weights[0], weights[1]) and torch.equal(weights[1], weights[2])
    assert not torch.equal(weights[2], weights[3])
    assert torch.isfinite(weights[3]).all() and trainer.step == 4


def test_a_run_that_only_skips_stops_and_says_what_to_do(loop: Any) -> None:
    trainer, reports = loop(60, range(5, 60))
    with pytest.raises(Prv2Error, match=r"20 losses in a row .* at step 24; lower optimiser\.lr"):
        trainer.run()
    assert len(reports) == 5 + MAX_SKIPPED_IN_A_ROW - 1


def test_a_batch_with_nan_does_not_poison_the_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Spoilt(_Blanks):
        def __getitem__(self, index: int) -> Sample:
            return {"rgb": torch.full((1, 3, 4, 4), math.nan if index == 1 else 1.0)}

    def step(model: nn.Module, batch: dict[str, Tensor], progress: float, config: TrainConfig) -> StepOutput:
        return StepOutput(model(batch["rgb"]).square().mean(), {})

    monkeypatch.setitem(STAGES, ("coarse", True), Stage(Spoilt, step))
    monkeypatch.setattr("prv2cli.training.trainer.build_to_train", lambda *_: nn.BatchNorm2d(3))
    config = TrainConfig(stage="coarse", model=LiteConfig(), steps=3, batch_size=1, data={"workers": 0})  # type: ignore[arg-type]
    trainer = Trainer(config, tmp_path, CPU, lambda parts: None)
    trainer.run()
    for model in (trainer.model, trainer.ema.model):
        assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def test_skips_are_counted_in_a_row(loop: Any) -> None:
    trainer, reports = loop(45, [i for i in range(45) if i % MAX_SKIPPED_IN_A_ROW])
    trainer.run()
    assert len(reports) == 45


def test_ema_follows_the_weights() -> None:
    model = nn.BatchNorm1d(2)
    ema = Ema(model, 0.9)
    with torch.no_grad():
        model.weight.fill_(3.0)
        model.num_batches_tracked.fill_(7)
    ema.update(model, 0)  # the first decay is 1/10: early weights do not linger
    torch.testing.assert_close(ema.model.weight, torch.full((2,), 0.1 * 1 + 0.9 * 3))
    ema.update(model, 10_000)
    torch.testing.assert_close(ema.model.weight, torch.full((2,), 0.9 * 2.8 + 0.1 * 3))
    assert ema.model.num_batches_tracked == 7
    assert not ema.model.training and model.training


def test_the_learning_rate_warms_up_and_falls() -> None:
    config = load_train_config(
        STAGE_CONFIGS["refine"], ["steps=100", "optimiser.lr=0.01", "optimiser.warmup=0.1"]
    )
    rates = [learning_rate(config, step) for step in range(101)]
    assert rates[0] == pytest.approx(0.001)
    assert rates[:10] == sorted(rates[:10]) and rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[50] == pytest.approx(0.005)
    assert rates[100] == pytest.approx(0.01 / 1000)
    unwarmed = load_train_config(STAGE_CONFIGS["refine"], ["steps=1", "optimiser.warmup=0", "optimiser.lr=1"])
    assert learning_rate(unwarmed, 0) == 1


# --- samples ----------------------------------------------------------------------------------------------


def _batches(stage: str, cache: Path, start: int = 0, **changes: object) -> list[dict[str, Tensor]]:
    config = load_train_config(STAGE_CONFIGS[stage], _overrides(cache, **changes))
    trainer = Trainer(config, cache, CPU, lambda parts: None)
    trainer.step = start
    return list(trainer._batches())


def _same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_samples_depend_on_seed_and_index_alone(cache: Path) -> None:
    """Not on the number of workers, nor on where a run was resumed."""
    here = _batches("refine", cache)
    elsewhere = _batches("refine", cache, **{"data.workers": 1})
    assert len(here) == len(elsewhere) == 3
    assert all(_same(a, b) for a, b in zip(here, elsewhere, strict=True))
    assert _same(_batches("refine", cache, start=2)[0], here[2])
    assert not _same(here[0], here[1])
    assert not torch.equal(_batches("refine", cache, seed=2)[0]["rgb"], here[0]["rgb"])


@pytest.mark.parametrize("stage", STAGE_CONFIGS)
def test_samples_are_what_they_are_said_to_be(stage: str, cache: Path) -> None:
    config = load_train_config(STAGE_CONFIGS[stage], _overrides(cache))
    batch = first_batch(config)
    assert all(torch.isfinite(tensor).all() for tensor in batch.values())
    assert batch["rgb"].min() >= 0 and batch["rgb"].max() <= 1
    tiles = 2 * (config.data.tiles_per_scene if stage == "refine" else 1)
    assert batch["rgb"].shape == (tiles, 3, 128, 128)
    if stage == "coarse":
        assert batch["depth"].shape == (2, 1, 128, 128) and batch["depth"].min() > 0
        return
    assert batch["truth"].shape == batch["coarse"].shape == (tiles, 1, 128, 128)
    assert len(batch["guide_rgb"]) == len(batch["guide_depth"]) == 2
    assert batch["box"].min() >= 0 and batch["box"].max() <= 1
    assert (batch["spread_ratio"] > 0).all()


def test_scenes_are_made_once_and_the_same_everywhere(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(cache, tmp_path, dirs_exist_ok=True)
    pool = _pool(tmp_path)
    lost = pool.path(2).read_bytes()
    pool.path(2).unlink()
    assert pool.missing() == [2]
    _make_and_save(pool._job(2))
    assert pool.path(2).read_bytes() == lost  # which another process had made
    monkeypatch.setattr("prv2cli.training.samples.procedural.ProcessPoolExecutor", None)
    pool.make(1)  # nothing is missing: nothing is started
    assert len(list(pool.folder.iterdir())) == SCENES  # and no partial file is left


def test_still_lifes_lie_beside_the_other_scenes(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    changes: dict[str, object] = {"data.scenes": 1, "data.still_lifes": 1}
    pool = ScenePool(load_train_config(STAGE_CONFIGS["coarse"], _overrides(tmp_path, **changes)).data)
    for index in range(2):
        pool.folder.mkdir(parents=True, exist_ok=True)
        _make_and_save(pool._job(index))
    assert not pool.missing() and len(pool) == 2
    styles: tuple[Style, ...] = ("any", "still-life")
    for index, style in enumerate(styles):
        expected = make_scene((pool.config.seed, 0), 128, style=style)
        assert np.array_equal(pool.load(index)[1], expected.depth)


def test_endless_scenes_are_new_in_every_sample_and_leave_nothing_behind(tmp_path: Path) -> None:
    changes: dict[str, object] = {"data.endless": True, "data.scenes": 1, "data.still_lifes": 1}
    config = load_train_config(STAGE_CONFIGS["coarse"], _overrides(tmp_path / "pool", **changes))
    assert isinstance(config.data, SceneDataConfig)
    samples = CoarseSamples(config.data, seed=3, length=4)
    depths = [samples[i]["depth"].numpy() for i in range(4)]
    assert len({depth.tobytes() for depth in depths}) == 4
    assert np.array_equal(samples[3]["depth"].numpy(), depths[3])  # whichever worker draws it
    for index, style in enumerate(("any", "still-life", "any")):  # in the proportion of the two
        expected = make_scene((config.data.seed, index), 128, style=style).depth
        assert np.array_equal(samples.pool.load(index)[1], expected)
    assert not (tmp_path / "pool").exists()
    with pytest.raises(ConfigError, match="endless scenes have none; give steps"):
        load_train_config(STAGE_CONFIGS["coarse"], _overrides(tmp_path, **changes, steps="null", epochs=2.0))


def test_still_lifes_of_a_pool_are_photographs_of_a_bundle_too(tmp_path: Path) -> None:
    data = SceneDataConfig(scenes=2, still_lifes=3, cache=tmp_path)
    assert PooledScenes(data).names == tuple(f"1-{index:06d}" for index in range(5))


def test_endless_scenes_for_a_bundle_never_come_twice(tmp_path: Path) -> None:
    changes = ["data={endless: true, scenes: 2, size: 64, tile: 64}", "data.cache=" + str(tmp_path / "pool")]
    config = load_train_config(CONFIGS / "own-folder.yaml", [*changes, "sampling.tile=[64, 64]"])
    samples = PhotoSamples(config, 6)
    truths = {samples[i]["truth"].numpy().tobytes() for i in range(6)}
    assert len(truths) == 6 and not (tmp_path / "pool").exists()


def test_tiles_with_wide_edges_are_marked_for_the_pass_at_half_size(cache: Path) -> None:
    sharp, blurred = (
        load_train_config(
            STAGE_CONFIGS["refine"],
            _overrides(cache, **{"degrade.factor": factor, "degrade.blur": "[1.6, 1.6]"}),
        )
        for factor in ("[2, 2]", "[20, 20]")
    )
    for config, wide in ((sharp, False), (blurred, True)):
        assert isinstance(config.data, SceneDataConfig)
        sample = RefineSamples(config.data, config.degrade, 1, 4, 1)[0]
        assert sample["wide"].tolist() == [wide] * config.data.tiles_per_scene


@pytest.mark.parametrize(("share", "learns"), [(0, False), (1, True)])
def test_the_pass_at_half_size_learns_from_the_tiles_that_need_it(
    share: int, learns: bool, cache: Path, tmp_path: Path
) -> None:
    changes = {"refine.cascade_from": 0, "refine.smooth_until": 0}
    config = load_train_config(STAGE_CONFIGS["refine"], _overrides(cache, **changes))
    batch = first_batch(config)
    batch["wide"] = torch.arange(len(batch["rgb"])) < share
    model = Trainer(config, tmp_path, CPU, lambda parts: None).model.train()
    statistics = [buffer.clone() for buffer in model.buffers()]
    output = stage_of(config).step(model, batch, 0.5, config)
    assert (float(output.parts["reduced"]) > 0) == learns
    assert all(part.training for part in model.modules())
    # One pass, that at full size, has left its trace in BatchNorm's statistics.
    counts = [b - a for a, b in zip(statistics, model.buffers(), strict=True) if a.dtype == torch.long]
    assert counts and all(count == 1 for count in counts)


def test_depth_at_half_size_is_one_that_exists() -> None:
    depth = torch.tensor([[1.0, 9.0, 2.0, 2.0], [9.0, 9.0, 5.0, 2.0]])[None, None]
    assert _reduce_depth(depth).tolist() == [[[[9.0, 2.0]]]]
    assert _reduce_depth(depth.flip(-2)).tolist() == [[[[9.0, 2.0]]]]
    assert (
        _reduce_depth(torch.tensor([[1.0, 1.0], [9.0, 9.0]])[None, None]).item() == 1.0
    )  # half of a thin part


@pytest.mark.parametrize("size", [96, 128, 171])
def test_a_resized_scene_keeps_its_edges_in_place(size: int, tmp_path: Path) -> None:
    """Colour is interpolated and depth is not: where the colour is half way, the depth must change."""
    config = load_train_config(STAGE_CONFIGS["refine"], _overrides(tmp_path, **{"data.scenes": 1}))
    assert isinstance(config.data, SceneDataConfig)
    pool = ScenePool(config.data)
    near = np.add.outer(np.arange(128), np.arange(128)) < 120  # cut slanting, so that every phase occurs
    rgb = np.where(near[..., None], 200, 40).astype(np.uint8).repeat(3, axis=-1)
    pool.folder.mkdir(parents=True)
    np.savez(pool.path(0), rgb=rgb, depth=np.where(near, 1, 4).astype(np.float32))
    samples = RefineSamples(config.data, config.degrade, 1, 1, 1)
    colour, depth = samples._scene(0, np.random.default_rng(0), size)
    brighter, nearer = (colour[..., 0] > 120).sum(1), (depth < 2).sum(1)
    assert abs((brighter - nearer.astype(float)).mean()) < 0.35


# --- losses -----------------------------------------------------------------------------------------------


def test_silog_agrees_with_its_formula() -> None:
    rng = np.random.default_rng(0)
    truth, prediction = rng.uniform(0.5, 20, (2, 1, 9, 11)), rng.uniform(0.5, 20, (2, 1, 9, 11))
    valid = rng.random(truth.shape) > 0.3
    g = (np.log(prediction) - np.log(truth))[valid]
    expected = 10 * math.sqrt(g.var(ddof=1) + 0.15 * g.mean() ** 2)
    got = silog(torch.from_numpy(prediction), torch.from_numpy(truth), torch.from_numpy(valid))
    assert float(got) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_silog_of_a_wrong_scale_is_that_of_its_logarithm(factor: float) -> None:
    truth = torch.rand(1, 1, 8, 8, dtype=torch.float64) + 1
    got = silog(truth * factor, truth, torch.ones_like(truth, dtype=torch.bool))
    assert float(got) == pytest.approx(10 * math.sqrt(0.15) * abs(math.log(factor)), rel=1e-5)


@pytest.fixture
def target() -> Tensor:
    """(1, 1, 32, 32) residuals: most of the coarse map is right, a stripe of it is wrong."""
    target = torch.zeros(1, 1, 32, 32)
    target[..., 10:14] = 0.5
    return target


@pytest.mark.parametrize("smooth", [True, False])
def test_a_perfect_residual_costs_nothing_and_any_other_does(target: Tensor, smooth: bool) -> None:
    assert weighted_residual_loss(target, target, smooth=smooth) == 0
    losses = [float(weighted_residual_loss(target * k, target, smooth=smooth)) for k in (0.9, 0.5, 0.0, -0.5)]
    assert losses == sorted(losses) and losses[0] > 0


@pytest.mark.parametrize("smooth", [True, False])
def test_an_error_costs_more_where_the_coarse_map_is_wrong(target: Tensor, smooth: bool) -> None:
    def loss_of_an_error_in(columns: slice) -> float:
        residual = target.clone()
        residual[..., columns] += 0.05
        return float(weighted_residual_loss(residual, target, smooth=smooth))

    assert loss_of_an_error_in(slice(10, 14)) > 2 * loss_of_an_error_in(slice(20, 24))


@pytest.mark.parametrize("smooth", [True, False])
def test_a_flat_tile_has_a_finite_gradient(smooth: bool) -> None:
    residual = torch.full((2, 1, 16, 16), 0.1, requires_grad=True)
    weighted_residual_loss(residual, torch.zeros(2, 1, 16, 16), smooth=smooth).backward()
    assert residual.grad is not None and torch.isfinite(residual.grad).all() and residual.grad.abs().sum() > 0


def test_the_edge_loss_counts_shares_of_a_step() -> None:
    """An edge left blurred costs nearly the same whatever its height, and less than one that is out of place."""
    of_low, of_high = _edge_losses(0.5), _edge_losses(8.0)
    for exact, blurred, displaced in (of_low, of_high):
        assert exact == 0 < blurred < displaced
    assert of_low == pytest.approx(of_high, rel=0.15)  # sixteen times as high
    plain = torch.full((1, 1, 32, 64), 0.3)
    assert edge_loss(plain + 0.1, plain, plain) == 0  # no edge


def _edge_losses(height: float) -> list[float]:
    """Of a step behind a map that shows a ramp of 8 px there: refined exactly, not at all, and 4 px out of place."""
    truth = torch.zeros(1, 1, 32, 64)
    truth[..., 32:] = height
    coarse = truth.clone()
    coarse[..., 28:37] = torch.linspace(0, height, 9)
    refined = (truth, coarse, truth.roll(4, 3))
    return [float(edge_loss(depth - coarse, truth - coarse, truth)) for depth in refined]


def test_drift_is_of_local_means_alone(target: Tensor) -> None:
    assert drift_loss(target, target) == 0
    texture = torch.ones(1, 1, 32, 32)
    texture[..., ::2] = -1  # averages out in every window
    assert drift_loss(target + 0.3 * texture, target) < 1e-6
    shifted = [float(drift_loss(target + shift, target)) for shift in (0.01, 0.1)]
    assert shifted[1] == pytest.approx(10 * shifted[0], rel=1e-4) and shifted[0] > 0


def test_a_trained_refiner_can_grow(cache: Path, tmp_path: Path) -> None:
    """Added layers begin as the identity: the larger network computes what the smaller one did. What is done outside of
    the network is free."""
    small = load_train_config(STAGE_CONFIGS["refine"], _overrides(cache, **{"model.head.dilations": []}))
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
        load_train_config(STAGE_CONFIGS["refine"], _overrides(cache, **changes)),
        tmp_path,
        CPU,
        lambda parts: None,
    )
    batch = first_batch(small)
    losses = [stage_of(small).step(t.model.eval(), batch, 0.0, small).loss for t in (trainer, grown)]
    assert losses[0] == losses[1]
    losses[1].backward()
    assert all(layer.weight.grad.abs().sum() > 0 for layer in grown.model.head.along)  # type: ignore[union-attr]


def test_configurations_of_a_stage_are_of_its_kind() -> None:
    kinds = {"refine": RefinerConfig, "coarse": LiteConfig}
    for stage, path in STAGE_CONFIGS.items():
        assert isinstance(load_train_config(path).model, kinds[stage])
