"""Batches: what is done, skipped, done again; dead and living neighbours; kills at any moment."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_refiner import FakeRefiner
from PIL import Image

from prv2cli.depth_files.formats import rows
from prv2cli.depth_files.ours.encoding import Encoding, write
from prv2cli.depth_files.read import read_depth
from prv2cli.errors import DiskFullError, OutputError
from prv2cli.jobs.batch import BatchSettings, Job
from prv2cli.jobs.claims import FOLDER, Claims
from prv2cli.jobs.engines.admission import MemoryRoom
from prv2cli.jobs.engines.local import AHEAD, LocalEngine, _Work, run_batch
from prv2cli.jobs.given import GivenMaps
from prv2cli.jobs.planning.find import find_photographs
from prv2cli.jobs.planning.outputs import plan
from prv2cli.machine.memory import resident_memory
from prv2cli.photo.header import read_header
from prv2cli.refine.estimate import Memory, memory_for
from prv2cli.refine.request import RefineRequest, Tiling

TESTS = Path(__file__).parents[1]
SETTINGS = BatchSettings(Encoding("tiff"))


def _photograph(path: Path, seed: int = 0, red: bool = False) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 200, (24, 32, 3), dtype=np.uint8)
    if red:
        pixels[0, 0] = (255, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for k, name in enumerate(("a.png", "b.png", "below/a.png", "below/deep/c.png")):
        _photograph(tmp_path / "in" / name, k)
    return tmp_path / "in"


def _jobs(folder: Path, suffix: str = ".tif") -> list[Job]:
    out = folder.parent / "out"
    found = find_photographs([folder], recursive=True, leave_out=out)
    return plan(found.photographs, out, "{stem}", suffix).jobs


def _run(jobs: list[Job], refiner: Any = None, settings: BatchSettings = SETTINGS) -> Counter[str]:
    out = jobs[0].target.parents[0]
    root = next(p for p in (out, *out.parents) if p.name == "out")
    fake: Any = FakeRefiner()
    return Counter(o.state for o in run_batch(jobs, refiner or fake, settings, Claims(root, expires=5)))


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_every_photograph_gets_its_depth_and_nothing_else_is_left(folder: Path) -> None:
    assert _run(_jobs(folder)) == {"done": 4}
    out = folder.parent / "out"
    assert sorted(_tree(out)) == ["a.tif", "b.tif", "below/a.tif", "below/deep/c.tif"]
    with Image.open(folder / "below/a.png") as picture:
        expected = 1 + np.asarray(picture).mean(axis=2) / 100
    depth = read_depth(out / "below/a.tif")
    np.testing.assert_allclose(depth.values, expected, atol=0.5 / 256 + 1e-6)
    assert not (out / FOLDER).exists()


def test_a_second_run_does_nothing(folder: Path) -> None:
    _run(_jobs(folder))
    before = _tree(folder.parent / "out")
    refiner = FakeRefiner()
    assert _run(_jobs(folder), refiner) == {"skipped": 4}
    assert refiner.calls == 0
    assert _tree(folder.parent / "out") == before


def test_a_second_run_needs_to_write_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _run(_jobs(folder))
    (folder.parent / "out/b.tif").unlink()

    def refuse(*_: Any) -> bool:
        raise OutputError("no permission to write there")

    monkeypatch.setattr(Claims, "acquire", refuse)
    assert _run(_jobs(folder)) == {"skipped": 3, "failed": 1}


@pytest.mark.parametrize(
    "settings",
    [
        BatchSettings(Encoding("tiff", scale=1000)),
        BatchSettings(Encoding("tiff", inverse=True)),
        BatchSettings(Encoding("tiff"), RefineRequest.of(overlap=0.25)),
        BatchSettings(Encoding("tiff"), RefineRequest(focal_px=500.0)),
        BatchSettings(Encoding("tiff"), RefineRequest(tta="flip")),
        BatchSettings(Encoding("tiff"), overwrite=True),
    ],
)
def test_other_settings_are_done_again(folder: Path, settings: BatchSettings) -> None:
    _run(_jobs(folder))
    assert _run(_jobs(folder), settings=settings) == {"done": 4}


def test_other_models_are_done_again(folder: Path) -> None:
    _run(_jobs(folder))
    assert _run(_jobs(folder), FakeRefiner(sha256="c" * 64)) == {"done": 4}
    other: Any = FakeRefiner(sha256="c" * 64)
    other.coarse.identity = "d" * 64
    assert _run(_jobs(folder), other) == {"done": 4}


REFINER = SimpleNamespace(
    checkpoint=SimpleNamespace(sha256="a" * 64),
    coarse=SimpleNamespace(identity="b" * 64),
    dtype="torch.float32",
)
BUNDLE = SimpleNamespace(checkpoint=SimpleNamespace(sha256="c" * 64), coarse=None, dtype="torch.bfloat16")
PINNED = [
    (
        REFINER,
        BatchSettings(Encoding("tiff")),
        "988507145941f851d419155811cdb74db97e2ce7a40380b99164028c5f793495",
    ),
    (
        BUNDLE,
        BatchSettings(
            Encoding("png", "uint16", 1000.0, True),
            RefineRequest(Tiling((512, 768), 0.25, seed=3), focal_px=1234.5),
        ),
        "7d1a624f6f26024c710cb30ff7dbbf1e8e39551768cee4e5b7966dee90be8853",
    ),
    (
        REFINER,
        BatchSettings(Encoding("npz"), RefineRequest(Tiling(mode="r32", seed=7), tta="flip")),
        "944997cfda27c0f0372eb48dc2f9048810e84db006841469be7e4518694c2af9",
    ),
    (
        REFINER,
        BatchSettings(Encoding("exr"), RefineRequest(Tiling((256, 256)), batch_size=4), 5, overwrite=True),
        "916655fbf208568134c4269be19ae4ba52179b9576ee3ad8ea86754f3f0c85cd",
    ),
]


def test_how_maps_are_read_is_part_of_the_settings() -> None:
    ways = [None, GivenMaps(), GivenMaps(scale=1000.0), GivenMaps(kind="inverse"), GivenMaps(relative=True)]
    ways += [GivenMaps(invalid="zero"), GivenMaps(stretched=True), GivenMaps(keep_holes=True)]
    ways += [GivenMaps(embedded=True)]
    refiner: Any = REFINER
    digests = {BatchSettings(Encoding("tiff"), maps=maps).digest(refiner) for maps in ways}
    assert len(digests) == len(ways)


@pytest.mark.parametrize(("refiner", "settings", "digest"), PINNED, ids=["plain", "bundle", "random", "tile"])
def test_the_digest_of_settings_stays_what_it_was(
    refiner: Any, settings: BatchSettings, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else every finished folder would be done again without need. Made by the command line of 0.1.0: a new version
    changes them all, and nothing else may, so they are never made anew but with a reason that CHANGELOG.md tells."""
    monkeypatch.setattr("prv2cli.jobs.batch.__version__", "0.1.0")
    assert settings.digest(refiner) == digest


@pytest.mark.parametrize(
    ("encoding", "counts"),
    [
        (Encoding("png"), True),
        (Encoding("tiff"), True),
        (Encoding("tiff", "uint16"), True),
        (Encoding("tiff", "float32"), False),
        (Encoding("npy"), False),
        (Encoding("npz"), False),
        (Encoding("exr"), False),
    ],
)
def test_a_scale_that_floats_do_not_have_does_not_count(encoding: Encoding, counts: bool) -> None:
    refiner: Any = REFINER
    digests = {BatchSettings(replace(encoding, scale=scale)).digest(refiner) for scale in (256.0, 1000.0)}
    assert (len(digests) == 2) == counts


def test_a_confidence_counts_where_it_changes_the_depth() -> None:
    """Without the mirrored pass nothing is settled at half size; with it the depth is that of the pass alone."""
    refiner: Any = REFINER
    requests = [
        RefineRequest(confidence=confidence, tta=tta)
        for tta in ("none", "flip")
        for confidence in (False, True)
    ]
    plain, compared, *flipped = (BatchSettings(SETTINGS.encoding, one).digest(refiner) for one in requests)
    assert len({plain, compared, *flipped}) == 3
    assert len(set(flipped)) == 1
    assert plain == SETTINGS.digest(refiner)


def test_what_another_version_made_is_done_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may compute otherwise; a batch that an update interrupts ends as a folder of one kind."""
    jobs = _jobs(folder)
    monkeypatch.setattr("prv2cli.jobs.batch.__version__", "0.0.9")
    assert _run(jobs[:2]) == {"done": 2}
    assert _run(jobs[:2]) == {"skipped": 2}
    monkeypatch.undo()
    assert _run(jobs) == {"done": 4}
    assert _run(jobs) == {"skipped": 4}


@pytest.mark.parametrize("suffix", [".tif", ".png", ".npy", ".npz"])
def test_only_what_is_missing_or_changed_is_done(folder: Path, suffix: str) -> None:
    encoding = {".tif": "tiff"}.get(suffix, suffix[1:])
    settings = BatchSettings(Encoding(encoding))
    jobs = _jobs(folder, suffix)
    _run(jobs, settings=settings)
    jobs[0].target.unlink()
    _photograph(jobs[1].source, 99)  # another picture under the same name
    refiner = FakeRefiner()
    assert _run(jobs, refiner, settings) == {"done": 2, "skipped": 2}
    assert refiner.calls == 2
    assert _run(jobs, settings=settings) == {"skipped": 4}


FORMATS = {".tif": "tiff", ".png": "png", ".npy": "npy", ".npz": "npz"}


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("share", [0, 0.02, 0.3, 0.6, 0.95, 0.999])
def test_an_output_that_was_cut_off_is_made_again(folder: Path, suffix: str, share: float) -> None:
    settings = BatchSettings(Encoding(FORMATS[suffix]))
    jobs = _jobs(folder, suffix)[:1]
    _run(jobs, settings=settings)
    whole = jobs[0].target.read_bytes()
    jobs[0].target.write_bytes(whole[: int(len(whole) * share)])
    assert _run(jobs, settings=settings) == {"done": 1}
    assert read_depth(jobs[0].target).values.shape == (24, 32)
    assert _run(jobs, settings=settings) == {"skipped": 1}


@pytest.mark.parametrize("suffix", FORMATS)
def test_pixels_that_were_zeroed_are_noticed_when_they_are_read(folder: Path, suffix: str) -> None:
    settings = BatchSettings(Encoding(FORMATS[suffix]), verify=True)
    jobs = _jobs(folder, suffix)[:1]
    _run(jobs, settings=settings)
    assert _run(jobs, settings=settings) == {"skipped": 1}
    if suffix == ".npy":  # plain numbers: nothing in them can be wrong
        return
    data = bytearray(jobs[0].target.read_bytes())
    middle = 300 if suffix == ".npz" else len(data) // 2 + 200
    data[middle : middle + 40] = bytes(40)
    jobs[0].target.write_bytes(data)
    assert _run(jobs, settings=settings) == {"done": 1}


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_of_someone_else_is_kept(folder: Path, suffix: str) -> None:
    settings = BatchSettings(Encoding(FORMATS[suffix]))
    jobs = _jobs(folder, suffix)
    theirs = [b"not a depth map", b"\x89PNG\r\n\x1a\n and more than that, but no depth map of ours at all"]
    jobs[0].target.parent.mkdir(parents=True)
    jobs[0].target.write_bytes(theirs[0])
    jobs[1].target.write_bytes(theirs[1])
    jobs[2].target.parent.mkdir(parents=True)
    with jobs[2].target.open("wb") as file:
        (np.savez if suffix == ".npz" else np.save)(file, np.ones((24, 32), np.float32))
    assert _run(jobs, settings=settings) == {"done": 1, "failed": 3}
    assert [job.target.read_bytes() for job in jobs[:2]] == theirs
    assert _run(jobs, settings=replace(settings, overwrite=True)) == {"done": 4}


def test_a_pipe_is_read_once(folder: Path) -> None:
    pipe, target = folder / "pipe", folder.parent / "out" / "pipe.tif"
    os.mkfifo(pipe)
    for _ in range(2):  # it may give another photograph each time: nothing is skipped
        writer = threading.Thread(target=lambda: pipe.write_bytes((folder / "a.png").read_bytes()))
        writer.start()
        assert _run([Job(pipe, target)]) == {"done": 1}
        writer.join()
    assert read_depth(target).values.shape == (24, 32)


def test_a_bad_photograph_is_told_and_the_others_are_done(folder: Path) -> None:
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    _photograph(folder / "red.png", red=True)
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    out = folder.parent / "out"
    outcomes = list(run_batch(_jobs(folder), FakeRefiner(), SETTINGS, Claims(out)))  # type: ignore[arg-type]
    assert Counter(o.state for o in outcomes) == {"done": 4, "failed": 3}
    errors = {o.job.source.name: o.error or "" for o in outcomes if o.state == "failed"}
    assert "bad.png" in errors["bad.png"]
    assert "nowhere" not in errors["bad.png"]
    assert "red" in errors["red.png"]
    assert "no such file" in errors["gone.png"]
    assert len(_tree(out)) == 4


def test_a_report_is_json_and_complete(folder: Path) -> None:
    out = folder.parent / "out"
    for outcome in run_batch(_jobs(folder), FakeRefiner(), SETTINGS, Claims(out)):  # type: ignore[arg-type]
        found = json.loads(json.dumps(outcome.report, allow_nan=False))
        assert {"state", "input", "output", "width", "height", "clipped", "seam", "model", "error"} <= set(
            found
        )
        assert {"decode", "encode", "total"} <= set(found["seconds"])


def test_few_photographs_are_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import prv2cli.jobs.engines.local as module

    folder = tmp_path / "in"
    for k in range(12):
        _photograph(folder / f"{k}.png", k)
    alive = most = 0
    read, encode = module.read_photo, module.LocalEngine._encode

    def counted_read(*args: Any, **options: Any) -> Any:
        nonlocal alive, most
        alive += 1
        most = max(most, alive)
        return read(*args, **options)

    def counted_encode(self: Any, *args: Any) -> Any:
        nonlocal alive
        time.sleep(0.01)  # the slowest part: everything would pile up before it
        alive -= 1
        return encode(self, *args)

    monkeypatch.setattr(module, "read_photo", counted_read)
    monkeypatch.setattr(module.LocalEngine, "_encode", counted_encode)
    assert _run(_jobs(folder)) == {"done": 12}
    assert most <= 2 * AHEAD + 3


def test_a_full_disk_ends_the_batch_and_leaves_whole_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import prv2cli.files.atomic as atomic

    jobs = _jobs(folder)
    fsync, calls = os.fsync, 0

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 3:  # each output syncs its file and its folder
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(DiskFullError, match="no space"):
        _run(jobs)
    monkeypatch.undo()
    out = folder.parent / "out"
    written = len(_tree(out))
    assert 1 <= written < 4
    for path in out.rglob("*.tif"):
        read_depth(path)
    assert _run(jobs) == {"done": 4 - written, "skipped": written}
    assert len(_tree(out)) == 4


def test_closing_the_batch_gives_claims_back(folder: Path) -> None:
    out = folder.parent / "out"
    batch = run_batch(_jobs(folder), FakeRefiner(), SETTINGS, Claims(out))  # type: ignore[arg-type]
    next(batch)
    batch.close()
    assert not (out / FOLDER).exists()
    assert not list(out.rglob("*.prv2tmp"))


def test_beside_a_gpu_several_are_encoded_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import prv2cli.jobs.engines.local as module

    monkeypatch.setattr(module.os, "cpu_count", lambda: 8)
    both, write = threading.Barrier(2), module.save

    def met(*args: Any, **options: Any) -> Any:
        both.wait(timeout=20)  # broken, and the job failed, where one comes after the other
        return write(*args, **options)

    monkeypatch.setattr(module, "save", met)
    refiner = FakeRefiner()
    refiner.device.type = "cuda"
    assert _run(_jobs(folder), refiner) == {"done": 4}
    refiner.device.type = "cpu"
    batch: Any = module.LocalEngine(refiner, SETTINGS, Claims(folder), MemoryRoom())  # type: ignore[arg-type]
    assert len(batch.encoder._threads) == 1
    batch.close()


# --- small photographs together -------------------------------------------------------------------------------


class WaitingRefiner(FakeRefiner):
    """Begins with the second photograph when all others are decoded."""

    def __init__(self, decoded: list[Path], count: int) -> None:
        super().__init__()
        self.decoded, self.count = decoded, count

    def refine(self, rgb: Any, request: RefineRequest) -> Any:
        deadline = time.monotonic() + 20
        while len(self.decoded) < self.count and time.monotonic() < deadline:
            time.sleep(0.01)
        return super().refine(rgb, request)


@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_what_is_decoded_goes_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    import prv2cli.jobs.engines.local as module

    for k in range(9):
        _photograph(tmp_path / "in" / f"{k}.png", k)
    read, decoded = module.read_photo, []

    def recorded(path: Path, **options: Any) -> Any:
        photo = read(path, **options)
        decoded.append(path)
        return photo

    monkeypatch.setattr(module, "read_photo", recorded)
    refiner = WaitingRefiner(decoded, min(9, 1 + max(AHEAD, batch_size)))
    jobs = _jobs(tmp_path / "in")
    assert _run(jobs, refiner, BatchSettings(Encoding("tiff"), RefineRequest(batch_size=batch_size))) == {
        "done": 9
    }
    largest = max(refiner.groups, default=1)
    least = {1: 1, 4: 3, 16: 4}[batch_size]  # the first group has those that were decoded before it began
    assert least <= largest <= batch_size
    assert _run(jobs) == {"skipped": 9}  # how many go together is no setting of the output


def test_a_bad_one_among_several_is_told_and_the_others_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    for k in range(5):
        _photograph(folder / f"{k}.png", k, red=k == 3)
    refiner = FakeRefiner(0.3)  # time to decode the others
    found = list(
        run_batch(
            _jobs(folder),
            refiner,  # type: ignore[arg-type]
            BatchSettings(Encoding("tiff"), RefineRequest(batch_size=8)),
            Claims(tmp_path / "out"),
        )
    )
    assert max(refiner.groups) >= 2
    assert Counter(o.state for o in found) == {"done": 4, "failed": 1}
    assert [o.error for o in found if o.state == "failed"] == [f"{tmp_path}/in/3.png: this one is red"]


def test_together_or_not_the_outputs_are_the_same(
    tmp_path: Path, refiner: Any, photograph: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To float32's rounding: 1e-4 of the depth, in files of float32."""
    groups: list[int] = []
    real = type(refiner).run

    def counted(self: Any, subjects: Any, *rest: Any, **options: Any) -> Any:
        found = real(self, subjects, *rest, **options)
        groups.append(len(subjects))
        return found

    monkeypatch.setattr(type(refiner), "run", counted)
    (tmp_path / "in").mkdir()
    for k in range(6):
        part = photograph[20 * k : 20 * k + 100, 30 * k : 30 * k + (150 if k % 2 else 120)]
        Image.fromarray(part).save(tmp_path / "in" / f"{k}.png")
    jobs = {
        size: [
            Job(job.source, tmp_path / str(size) / job.target.name) for job in _jobs(tmp_path / "in", ".npy")
        ]
        for size in (0, 4)
    }
    for size, some in jobs.items():
        settings = BatchSettings(Encoding("npy"), RefineRequest(batch_size=size))
        outcomes = list(run_batch(some, refiner, settings, Claims(tmp_path / str(size))))
        assert Counter(o.state for o in outcomes) == {"done": 6}
    for alone, together in zip(*jobs.values(), strict=True):
        np.testing.assert_allclose(np.load(together.target), np.load(alone.target), rtol=1e-4)
    assert max(groups) > 1


# --- memory ---------------------------------------------------------------------------------------------------


def _needs(path: Path) -> Memory:
    return memory_for(read_header(path), RefineRequest())


def test_as_many_are_in_memory_as_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has room for two photographs at a time, and one that has room for many."""
    import prv2cli.jobs.engines.local as module

    for k in range(8):
        _photograph(tmp_path / "in" / f"{k}.png", k)
    needs = _needs(tmp_path / "in/0.png")
    alive, most, read, write = 0, 0, module.read_photo, module.save

    def counted_read(*args: Any, **options: Any) -> Any:
        nonlocal alive, most
        alive += 1
        most = max(most, alive)
        return read(*args, **options)

    def counted_write(*args: Any, **options: Any) -> Any:
        nonlocal alive
        time.sleep(0.05)  # the slowest part: everything would pile up before it
        alive -= 1
        return write(*args, **options)

    monkeypatch.setattr(module, "read_photo", counted_read)
    monkeypatch.setattr(module, "save", counted_write)
    for others, expected in ((1, 2), (100, 5)):
        most = 0
        free = int(needs.in_memory / 0.9 + (others + 0.5) * needs.photograph)
        room = MemoryRoom(partial(int, free))
        out = tmp_path / f"out{others}"
        jobs = [Job(job.source, out / job.target.name) for job in _jobs(tmp_path / "in")]
        outcomes = list(run_batch(jobs, FakeRefiner(), SETTINGS, Claims(out), room))  # type: ignore[arg-type]
        assert Counter(o.state for o in outcomes) == {"done": 8}
        assert most == expected if others == 1 else most >= expected


def test_a_photograph_that_has_left_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the next one, as large, would be refused for want of memory."""
    import prv2cli.jobs.engines.local as module

    for k in range(5):
        _photograph(tmp_path / "in" / f"{k}.png", k)
    needs = _needs(tmp_path / "in/0.png")
    room = MemoryRoom(lambda: int(needs.in_memory / 0.9) + 1)  # for one at a time
    read, held = module.read_photo, []
    seen: list[weakref.ref[Any]] = []

    def watched(*args: Any, **options: Any) -> Any:
        held.append(sum(one() is not None for one in seen))
        photo = read(*args, **options)
        seen.append(weakref.ref(photo))
        return photo

    monkeypatch.setattr(module, "read_photo", watched)
    outcomes = run_batch(_jobs(tmp_path / "in"), FakeRefiner(), SETTINGS, Claims(tmp_path / "out"), room)  # type: ignore[arg-type]
    assert Counter(o.state for o in outcomes) == {"done": 5}
    assert held == [0] * 5


def test_the_mirrored_pass_counts_in_memory_and_in_batches(tmp_path: Path) -> None:
    _photograph(tmp_path / "in/0.png", 0)
    (job,) = _jobs(tmp_path / "in")
    found = {}
    for tta in ("auto", "flip"):
        room, work = MemoryRoom(lambda: 10**12), _Work(job)
        claims = Claims(tmp_path / tta)
        settings = BatchSettings(Encoding("tiff"), RefineRequest.of(tta=tta))
        engine = LocalEngine(FakeRefiner(), settings, claims, room)  # type: ignore[arg-type]
        engine._decode(work)
        found[tta] = (room._held[work], work.tiles)
        engine.close()
    header = read_header(job.source)
    assert found["auto"] == (memory_for(header, RefineRequest()).photograph, 1)
    assert found["flip"] == (memory_for(header, RefineRequest(tta="flip")).photograph, 2)
    assert found["flip"][0] > found["auto"][0]


@pytest.mark.parametrize("tta", ["auto", "flip"])
def test_what_does_not_fit_is_done_in_bands_or_refused(
    tmp_path: Path, refiner: Any, photograph: Any, monkeypatch: pytest.MonkeyPatch, tta: Any
) -> None:
    folder, free = tmp_path / "in", 10**12
    folder.mkdir()
    Image.fromarray(photograph[:120, :160]).save(folder / "a small.png")
    Image.fromarray(photograph).save(folder / "large.tif", compression="tiff_deflate")
    Image.fromarray(np.tile(photograph, (3, 3, 1))).save(folder / "too large.tif", compression="tiff_deflate")
    request = RefineRequest(Tiling((128, 128)), tta=tta)
    settings = BatchSettings(Encoding("npy"), request)
    needs = memory_for(read_header(folder / "large.tif"), request)
    assert needs.in_bands < needs.in_memory
    trees = []
    for free in (10**12, int((needs.in_bands + needs.in_memory) / 2 / 0.9)):
        out = tmp_path / str(free)
        jobs = [Job(job.source, out / job.target.name) for job in _jobs(folder, ".npy")]
        room = MemoryRoom(partial(int, free))
        found = {o.job.source.name: o for o in run_batch(jobs, refiner, settings, Claims(out), room)}
        trees.append({path.name: np.load(path) for path in out.iterdir()})
    assert (found["a small.png"].state, found["large.tif"].state) == ("done", "done")
    for name in ("a small.npy", "large.npy"):
        assert np.array_equal(trees[0][name], trees[1][name])
    assert found["too large.tif"].state == "failed"
    assert "too large.npy" not in trees[1]
    message = found["too large.tif"].error or ""
    assert "too large.tif: 1260 x 900 needs" in message
    assert "GB are free" in message
    assert sorted(path.name for path in out.iterdir()) == ["a small.npy", "large.npy"]
    outcomes = run_batch(jobs, refiner, settings, Claims(out), MemoryRoom(lambda: free))
    assert Counter(o.state for o in outcomes) == {"skipped": 2, "failed": 1}


def test_the_models_are_loaded_already(tmp_path: Path) -> None:
    """What the process holds is not wanted once more from what is free."""
    refiner: Any = FakeRefiner()
    refiner.coarse_peak = resident_memory() + 10**9
    engine = LocalEngine(refiner, SETTINGS, Claims(tmp_path))
    assert engine.coarse_peak == pytest.approx(10**9, rel=0.2)
    engine.close()


def test_a_photograph_without_room_on_the_disk_does_not_end_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its scratch files are gone again, and smaller ones need none."""

    def full(*_: Any) -> Any:
        raise DiskFullError("/tmp: 4.0 GB are needed")

    monkeypatch.setattr("prv2cli.jobs.engines.local.refine_file", full)
    job = Job(_photograph(tmp_path / "a.png"), tmp_path / "out" / "a.tif")
    refiner: Any = FakeRefiner()
    engine = LocalEngine(refiner, SETTINGS, Claims(tmp_path / "out"))
    outcome = engine._in_bands(_Work(job))
    assert (outcome.state, outcome.error) == (
        "failed",
        f"{tmp_path}/a.png: /tmp: 4.0 GB are needed",
    )
    engine.close()


def _interrupted(batch: Any, after: float) -> float:
    """Ctrl-C `after` so many seconds of a batch: how long it took in all to end."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(after, os.kill, [os.getpid(), signal.SIGINT]).start()
    start = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            next(batch)
    finally:
        signal.signal(signal.SIGINT, before)
    return time.monotonic() - start


def test_ctrl_c_does_not_wait_for_memory(tmp_path: Path) -> None:
    """Closed while the decoder waits for room: it is let go."""
    for k in range(4):
        _photograph(tmp_path / "in" / f"{k}.png", k)
    needs = _needs(tmp_path / "in/0.png")
    room = MemoryRoom(lambda: int(needs.in_memory / 0.9) + 1)
    room._held["another"] = needs.photograph
    claims = Claims(tmp_path / "out")
    batch = run_batch(_jobs(tmp_path / "in"), FakeRefiner(), SETTINGS, claims, room)  # type: ignore[arg-type]
    seconds = _interrupted(batch, after=0.5)
    assert seconds < 5
    assert not (tmp_path / "out" / FOLDER).exists()


def test_ctrl_c_does_not_wait_for_what_is_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A map that takes a quarter of a minute to encode: its file is given up, and nothing of it stays."""
    _photograph(tmp_path / "in/a.png")
    monkeypatch.setattr(rows, "BAND_PIXELS", 1)  # so that each row is a band
    bands = 0

    def write_slowly(*arguments: Any, on_band: Any, **options: Any) -> Any:
        def slowly() -> None:
            nonlocal bands
            on_band()
            time.sleep(0.5)
            bands += 1

        return write(*arguments, on_band=slowly, **options)

    monkeypatch.setattr("prv2cli.jobs.one_photo.write", write_slowly)
    refiner: Any = FakeRefiner()
    batch = run_batch(_jobs(tmp_path / "in"), refiner, SETTINGS, Claims(tmp_path / "out"))
    seconds = _interrupted(batch, after=1)
    assert 1 <= bands < 20
    assert seconds < 5
    assert _tree(tmp_path / "out") == {}


# --- several processes ---------------------------------------------------------------------------------------


def _start(folder: Path, out: Path, seconds: float) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(TESTS.parent), os.environ.get("PYTHONPATH", "")]),
    }
    command = [
        sys.executable,
        "-W",
        "ignore",
        str(TESTS / "support" / "fake_refiner.py"),
        str(folder),
        str(out),
        str(seconds),
    ]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def test_two_processes_share_the_work(tmp_path: Path) -> None:
    for k in range(10):
        _photograph(tmp_path / "in" / f"{k}.png", k)
    both = [_start(tmp_path / "in", tmp_path / "out", 0.15) for _ in range(2)]
    states = []
    for process in both:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        states.append(Counter(line.split()[0] for line in out.splitlines()))
    assert states[0]["done"] + states[1]["done"] == 10
    assert all(sum(state.values()) == 10 and state["done"] > 0 for state in states)
    assert len(_tree(tmp_path / "out")) == 10


def test_two_that_make_everything_again_share_the_work(tmp_path: Path) -> None:
    """What the other has made since this one began is not made once more; what was there before is."""
    for k in range(3):
        _photograph(tmp_path / "in" / f"{k}.png", k)
    jobs, again = _jobs(tmp_path / "in"), replace(SETTINGS, overwrite=True)
    assert _run(jobs) == {"done": 3}
    refiner: Any = FakeRefiner()
    first = LocalEngine(refiner, again, Claims(tmp_path / "out"))
    time.sleep(0.01)
    assert _run(jobs[:2], settings=again) == {"done": 2}
    assert Counter(outcome.state for outcome in first.run(jobs)) == {"skipped": 2, "done": 1}
    first.close()


def test_a_claim_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    out, target = tmp_path, tmp_path / "a.tif"
    first = Claims(out)
    assert first.acquire(target)
    assert not Claims(out).acquire(target)
    claim = next((out / FOLDER).iterdir())
    owner = json.loads(claim.read_text())
    claim.write_text(json.dumps({**owner, "pid": ended.pid}))
    assert Claims(out).acquire(target)


def test_a_claim_of_another_machine_expires(tmp_path: Path) -> None:
    target = tmp_path / "a.tif"
    assert Claims(tmp_path).acquire(target)
    claim = next((tmp_path / FOLDER).iterdir())
    claim.write_text(json.dumps({"host": "elsewhere", "pid": 1, "since": 0}))
    assert not Claims(tmp_path, expires=30).acquire(target)
    os.utime(claim, (time.time() - 60, time.time() - 60))
    assert Claims(tmp_path, expires=30).acquire(target)


def _begun(process: subprocess.Popen[str], out: Path) -> float:
    """Wait until a batch has claimed a photograph, or has ended; the time then."""
    while process.poll() is None and process.pid not in _owners(out):
        time.sleep(0.002)
    return time.perf_counter()


def _owners(out: Path) -> set[int]:
    """The processes that have claims, living or dead."""
    found = set()
    for claim in (out / FOLDER).glob("*"):
        with suppress(OSError, ValueError):  # it may be gone, or not be written yet
            found.add(json.loads(claim.read_text())["pid"])
    return found


def test_killed_at_any_moment_and_run_again_the_result_is_the_same(tmp_path: Path) -> None:
    """Thirty kills, spread over the time that the work takes; then one run to the end."""
    for k in range(8):
        _photograph(tmp_path / "in" / f"{k % 3}" / f"{k}.png", k)
    calm = tmp_path / "calm"
    process = _start(tmp_path / "in", calm, 0.02)
    start = _begun(process, calm)
    while len(list(calm.rglob("*.tif"))) < 8 and process.poll() is None:
        time.sleep(0.002)
    duration = time.perf_counter() - start  # of the work alone
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    expected = _tree(calm)
    rng, amid = random.Random(7), 0
    for round_ in range(30):
        out = tmp_path / f"killed{round_ // 5}"  # five kills on the same folder, then another
        process = _start(tmp_path / "in", out, 0.02)
        _begun(process, out)
        time.sleep(rng.uniform(0.0, 1.0) * duration)
        alive = process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
        made = list(out.rglob("*.tif"))
        amid += alive and len(made) < len(expected)
        for path in made:
            assert path.read_bytes() == expected[str(path.relative_to(out))]
    assert amid >= 5  # with some of the work done, and not all
    for k in range(6):
        out = tmp_path / f"killed{k}"
        process = _start(tmp_path / "in", out, 0.0)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert _tree(out) == expected
