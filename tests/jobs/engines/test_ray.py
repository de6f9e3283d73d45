"""`prv2 batch --engine ray` on a real Ray of two workers: the same files, dying workers, Ctrl-C, streams."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_refiner import FakeRefiner, load_slow
from PIL import Image

from prv2cli.cli import app
from prv2cli.depth_files.ours.encoding import Encoding
from prv2cli.depth_files.read import read_depth
from prv2cli.errors import EngineError
from prv2cli.jobs.batch import BatchSettings, Job, run_on
from prv2cli.jobs.claims import FOLDER
from prv2cli.jobs.engines.ray import load_refiner
from prv2cli.jobs.engines.ray_layout import MEMORY_PER_WORKER, Layout, plan_workers
from prv2cli.jobs.planning.find import find_photographs
from prv2cli.jobs.planning.outputs import plan

TESTS = Path(__file__).parents[2]
PATHS = os.pathsep.join([str(TESTS.parent), str(TESTS / "support"), os.environ.get("PYTHONPATH", "")])
SETTINGS = BatchSettings(Encoding("tiff"))
_INTERRUPTED = """
import sys
from fake_refiner import load_slow
from prv2cli.jobs.engines import ray as ray_engine
ray_engine.load_refiner = load_slow
from prv2cli.cli.app import main
main(sys.argv[1:])
"""


_CLUSTER = """
import sys
from prv2cli.jobs.engines.ray import STORE_BYTES, import_ray
ray = import_ray()
ray.init(
    address="local",
    num_cpus=2,
    include_dashboard=False,
    log_to_driver=False,
    configure_logging=False,
    object_store_memory=STORE_BYTES,
)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
ray.shutdown()
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a Ray with two CPUs, of a process of its own.

    Who connects to it and leaves hears no more of its workers: what Ray says of those that were killed comes late.
    """
    pytest.importorskip("ray", reason="Ray is not installed: it has no wheel for this Python or machine")
    with subprocess.Popen(
        [sys.executable, "-c", _CLUSTER],
        env={**os.environ, "PYTHONPATH": PATHS, "RAY_AUTH_MODE": "disabled"},  # also of the workers
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        yield process.stdout.readline().strip()
        process.stdin.close()
    assert process.returncode == 0


@pytest.fixture
def address(cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster, where a batch of this process looks for it."""
    monkeypatch.setenv("RAY_ADDRESS", cluster)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with six photographs in `in`."""
    monkeypatch.chdir(tmp_path)
    for k, name in enumerate(("a.png", "b.jpg", "c.png", "below/d.png", "below/e.png", "below/deep/f.png")):
        _photograph(tmp_path / "in" / name, k)
    return tmp_path


@pytest.fixture
def batch(address: None, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Any:
    """Run `prv2 batch in -r -o out --engine ray` with a stand-in for the models: (exit code, stdout, stderr)."""
    monkeypatch.setattr("prv2cli.jobs.engines.ray.load_refiner", load_slow)

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = app._run(
            ["batch", "in", "-r", "-o", "out", "--engine", "ray", *map(str, arguments)], debug=False
        )
        return code, *capsys.readouterr()

    return run


def _photograph(path: Path, seed: int, first: tuple[int, int, int] | None = None) -> None:
    pixels = np.random.default_rng(seed).integers(0, 200, (24, 32, 3), dtype=np.uint8)
    if first:
        pixels[0, 0] = first
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def _jobs(out: Path) -> list[Job]:
    found = find_photographs([Path("in")], recursive=True, leave_out=out)
    return plan(found.photographs, out, "{stem}", ".tif").jobs


def _local_tree(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What the local engine makes of the photographs."""
    from prv2cli.refine.refiner import Refiner

    monkeypatch.setattr(Refiner, "load", lambda *_: FakeRefiner())
    assert app._run(["batch", "in", "-r", "-o", "local", "-q"], debug=False) in (0, 1)
    return _tree(Path("local"))


def _states(out: str) -> dict[str, str]:
    """State by photograph; each must have one line."""
    found = [json.loads(line) for line in out.splitlines()]
    assert len({report["input"] for report in found}) == len(found)
    return {report["input"]: report["state"] for report in found}


def test_the_files_are_those_of_the_local_engine_and_a_second_run_does_nothing(
    batch: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "in/bad.jpg").write_bytes(b"text")
    code, out, err = batch("--workers", 2, "--json")
    states = _states(out)
    assert code == 1
    assert states.pop("in/bad.jpg") == "failed"
    assert set(states.values()) == {"done"}
    assert len(states) == 6
    assert (
        "error: in/bad.jpg: not a photograph" in err
    )  # on a busy machine after a word that workers start late
    assert "6 done, 0 already done, 1 failed" in err
    assert _tree(folder / "out") == _local_tree(monkeypatch)
    (folder / "in/bad.jpg").unlink()
    (folder / "out/a.tif").unlink()
    assert Counter(_states(batch("--json", "-q")[1]).values()) == {"done": 1, "skipped": 5}
    code, out, err = batch("--json", "-q", "--shard", "1/1", "--depth-scale", 1000)
    assert (code, err) == (0, "")
    assert set(_states(out).values()) == {"done"}


def test_given_maps_and_what_lies_beside_the_depth(batch: Any, folder: Path) -> None:
    for metres, name in enumerate(("a", "b", "c", "below/d", "below/e", "below/deep/f"), 2):
        (folder / "maps" / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(folder / "maps" / f"{name}.npy", np.full((6, 8), metres, np.float32))
    call = (
        "--workers",
        1,
        "--json",
        "-q",
        "--coarse-depth",
        "maps",
        "--preview",
        "{stem}_look.png",
        "--coarse-scale",
    )
    code, out, _ = batch(*call, 1)
    assert (code, set(_states(out).values())) == (0, {"done"})
    assert [
        float(np.median(read_depth(Path(f"out/{name}.tif")).values)) for name in ("a", "below/deep/f")
    ] == [2, 7]
    assert len(list(Path("out").rglob("*_look.png"))) == 6
    np.save("maps/b.npy", np.full((6, 8), 9, np.float32))
    states = _states(batch(*call, 1)[1])
    assert {name for name, state in states.items() if state == "done"} == {"in/b.jpg"}


def test_a_killed_worker_costs_nothing(batch: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = threading.Thread(target=_kill_a_worker, args=(folder / "out",))
    killed.start()
    code, out, err = batch("--workers", 2, "--json", "-q")
    killed.join()
    assert (code, err) == (0, "")
    states = _states(out)
    assert len(states) == 6
    assert "failed" not in states.values()
    assert _tree(folder / "out") == _local_tree(monkeypatch)


def _kill_a_worker(out: Path) -> None:
    """Once there is an output, the process that works on another."""
    deadline = time.monotonic() + 50
    while time.monotonic() < deadline:
        if list(out.glob("**/*.tif")):
            for claim in (out / FOLDER).glob("*"):
                try:
                    owner = int(json.loads(claim.read_text())["pid"])
                except (OSError, ValueError):
                    continue  # just made, or just given back
                assert owner != os.getpid()
                os.kill(owner, signal.SIGKILL)
                return
        time.sleep(0.01)
    raise AssertionError("no worker was seen")


def test_a_photograph_that_kills_its_worker_is_named_and_the_rest_is_done(
    batch: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _photograph(folder / "in/poison.png", 9, first=(0, 0, 255))
    code, out, err = batch("--workers", 2, "--json")
    states = _states(out)
    assert code == 1
    assert states.pop("in/poison.png") == "failed"
    assert set(states.values()) == {"done"}
    assert len(states) == 6
    assert "error: in/poison.png: the process working on it died 3 times" in err
    (folder / "in/poison.png").unlink()
    assert _tree(folder / "out") == _local_tree(monkeypatch)


def test_what_a_worker_cannot_see_is_an_error_of_that_file(
    address: None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prv2cli.jobs.engines.ray import RayEngine

    jobs = [*_jobs(Path("out")), Job(Path("in/gone.png"), Path("out/gone.tif"))]
    engine = RayEngine(partial(FakeRefiner), SETTINGS, Path("out"), workers=1, jobs=9, device="cpu")
    seen = os.path.lexists
    monkeypatch.setattr(os.path, "lexists", lambda path: str(path) == "in/gone.png" or seen(path))
    outcomes = {str(o.job.source): o for o in run_on(engine, jobs)}
    error = outcomes.pop("in/gone.png").error
    assert error is not None
    assert error.startswith("in/gone.png: ")
    assert "all nodes share" in error
    assert {o.state for o in outcomes.values()} == {"done"}


def test_a_model_that_no_worker_can_load_ends_the_batch(
    batch: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prv2cli.jobs.engines.ray.load_refiner", load_refiner)
    (folder / "bad.safetensors").write_bytes(b"text")
    code, out, err = batch("--workers", 1, "--model", "bad.safetensors", "-q")
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert "bad.safetensors" in err
    assert _tree(folder / "out") == {}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--engine", "local", "--workers", "2"), 2, "add --engine ray"),
        (("--engine", "ray", "--workers", "0"), 2, "--workers"),
        (("--engine", "ray", "--device", "cuda:1"), 2, "--device cuda"),
        (("--engine", "dask"), 2, "--engine"),
    ],
)
def test_wrong_calls_are_one_line(
    folder: Path, capsys: Any, arguments: tuple[str, ...], code: int, words: str
) -> None:
    assert app._run(["batch", "in", "-o", "out", *arguments], debug=False) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert len(err.splitlines()) == 1
    assert not (folder / "out").exists()


def test_a_gpu_that_the_cluster_lacks_is_an_error(batch: Any, folder: Path) -> None:
    code, out, err = batch("--device", "cuda")
    assert (code, out) == (1, "")
    assert "the Ray cluster has no GPU" in err
    assert len(err.splitlines()) == 1


def test_without_ray_the_extra_is_named(folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert app._run(["batch", "in", "-o", "out", "--engine", "ray"], debug=False) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "pip install 'prv2cli[ray]'" in err
    assert len(err.splitlines()) == 1
    assert not (folder / "out").exists()


def test_the_shipped_models_on_a_running_cluster(cluster: str, folder: Path) -> None:
    """As a program: RAY_ADDRESS, streams, and the bytes of a local batch with as many threads."""
    environment = {**os.environ, "PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1", "RAY_ADDRESS": cluster}
    program = [
        sys.executable,
        "-m",
        "prv2cli",
        "batch",
        "in/a.png",
        "in/b.jpg",
        "in/c.png",
        "--device",
        "cpu",
    ]
    program += ["--coarse", "lite", "--precision", "fp32", "--json", "-q"]
    ended = [
        subprocess.run([*program, *options], env=environment, capture_output=True, text=True, timeout=300)
        for options in (("-o", "ray", "--engine", "ray", "--workers", "2"), ("-o", "local"))
    ]
    assert [(p.returncode, p.stderr) for p in ended] == [(0, ""), (0, "")]
    reports = [sorted(map(json.loads, p.stdout.splitlines()), key=lambda r: r["input"]) for p in ended]
    for on_ray, here in zip(*reports, strict=True):
        assert on_ray.keys() == here.keys()
        assert on_ray["seconds"].keys() == here["seconds"].keys()
        timed = {"seconds", "output"}
        assert {k: v for k, v in on_ray.items() if k not in timed} == {
            k: v for k, v in here.items() if k not in timed
        }
    assert len(_tree(folder / "ray")) == 3
    assert _tree(folder / "ray") == _tree(folder / "local")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_ray_soon_and_cleanly(folder: Path, number: signal.Signals) -> None:
    for k in range(60):
        _photograph(folder / f"in/{k}.png", k)
    _interrupt(folder, number, lambda mark: bool(list(folder.glob("out/*.tif"))))
    left = _tree(folder / "out")
    assert 1 <= len(left) < 66
    assert all(name.endswith(".tif") and not name.startswith(".") for name in left)
    assert not (folder / "out" / FOLDER).exists()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="when Ray starts is seen in /proc alone")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("process", ["gcs_server", "raylet/raylet", "ray::"])
def test_a_signal_while_ray_starts_ends_it_soon_and_cleanly(
    folder: Path, number: signal.Signals, process: str
) -> None:
    """The processes of a Ray: the first, one that comes late, and a worker, which comes once Ray is up."""
    _interrupt(folder, number, lambda mark: any(process in line for line in _marked(mark)))
    assert _tree(folder / "out") == {}


def _interrupt(folder: Path, number: signal.Signals, ready: Callable[[str], bool]) -> None:
    """Begin a batch on a Ray of its own, give it the signal once it is ready, and see it end as it should."""
    pytest.importorskip("ray", reason="Ray is not installed: it has no wheel for this Python or machine")
    mark = f"PRV2_TEST_MARK={folder}"
    environment = {**os.environ, "PYTHONPATH": PATHS, **dict([mark.split("=", 1)])}
    environment.pop("RAY_ADDRESS", None)
    process = subprocess.Popen(
        [sys.executable, "-c", _INTERRUPTED, "batch", "in", "-o", "out", "--engine", "ray", "--workers", "2"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 120
    while not (is_ready := ready(mark)) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    # As a terminal does it: Ctrl-C goes to all, Ray's processes too.
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    start = time.monotonic()
    out, err = process.communicate(timeout=60)
    seconds = time.monotonic() - start
    assert is_ready, err
    assert process.returncode == 130, err
    assert (out, err.splitlines()[-1]) == ("", "interrupted")
    assert "Traceback" not in err
    assert seconds < 25  # two on a machine that does nothing else
    deadline = time.monotonic() + 10
    while (alive := _marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive


def _marked(mark: str) -> list[str]:
    """The processes that have this in their environment. None where the system does not tell."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # not ours, or ended
            if mark.encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_text().replace("\0", " "))
    return found


def test_a_cluster_that_is_not_there_is_one_line(folder: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: it has no wheel for this Python or machine")
    environment = {**os.environ, "PYTHONPATH": PATHS, "RAY_ADDRESS": "127.0.0.1:1"}
    program = [sys.executable, "-m", "prv2cli", "batch", "in", "-o", "out", "--engine", "ray"]
    ended = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("error: --engine ray: no Ray at RAY_ADDRESS=127.0.0.1:1: ")
    assert len(ended.stderr.splitlines()) == 1


# --- where the workers go: no Ray ----------------------------------------------------------------------------

ROOMY = 1e12


@pytest.mark.parametrize(
    ("nodes", "workers", "jobs", "gpus", "expected"),
    [
        ([{"CPU": 8, "memory": ROOMY}], None, 100, False, Layout(8, 1, 0, 8)),
        ([{"CPU": 8, "memory": 2.5 * MEMORY_PER_WORKER}], None, 100, False, Layout(2, 4, 0, 2)),
        ([{"CPU": 8, "memory": 1}], None, 100, False, Layout(1, 8, 0, 1)),
        ([{"CPU": 8, "memory": ROOMY}], None, 3, False, Layout(3, 2, 0, 4)),
        ([{"CPU": 4, "memory": ROOMY}] * 3, 4, 100, False, Layout(4, 2, 0, 6)),
        ([{"CPU": 2, "memory": ROOMY}], 5, 100, False, Layout(5, 1, 0, 2)),
        ([{"CPU": 16, "GPU": 4}, {"CPU": 64}], None, 100, True, Layout(4, 4, 1, 4)),
        ([{"CPU": 16, "GPU": 4}], 2, 100, True, Layout(2, 8, 1, 2)),
        ([{"memory": ROOMY}], None, 0, False, Layout(1, 1, 0, 0)),
    ],
)
def test_workers_are_laid_out(
    nodes: list[dict[str, float]], workers: int | None, jobs: int, gpus: bool, expected: Layout
) -> None:
    assert plan_workers(nodes, workers, jobs, gpus=gpus) == expected


def test_workers_that_are_not_alike_are_refused(address: None, folder: Path) -> None:
    from prv2cli.jobs.engines.ray import RayEngine

    load = partial(_by_process, folder / "first")
    engine = RayEngine(load, SETTINGS, Path("out"), workers=2, jobs=9, device="cpu")
    with pytest.raises(EngineError, match="would not make the same files: weights is"):
        list(run_on(engine, _jobs(Path("out"))))


def _by_process(first: Path) -> FakeRefiner:
    """Other weights in the second process than in the first, which is not ready before there is a second."""
    second = first.with_name("second")
    try:
        first.touch(exist_ok=False)
    except FileExistsError:
        second.touch()
        return FakeRefiner(sha256="c" * 64)
    deadline = time.monotonic() + 50
    while not second.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return FakeRefiner(0.2)  # so that photographs are left when the second comes
