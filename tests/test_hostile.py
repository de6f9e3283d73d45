"""Hostile and broken input: whatever the bytes and the names, a result or one clear error, soon, and in little memory.

The single refusals are tested with their readers (photo/test_opening, depth_files/test_decode); this is the rest:
damage to every format, files that unpack to gigabytes, names and links made to mislead, and what fuzzing found.
"""

from __future__ import annotations

import errno
import json
import os
import random
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_refiner import FakeRefiner
from hostile_files import FORMATS, METADATA, bombs, depth_maps, many_pages, photographs, written

from prv2cli.cli.app import main
from prv2cli.depth_files.convert import convert
from prv2cli.depth_files.info import depth_info
from prv2cli.depth_files.ours.encoding import Encoding
from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.depth_files.read import read_depth, read_depth_metadata
from prv2cli.errors import ConfigError, DiskFullError, InputError, Prv2Error, UsageError
from prv2cli.evaluation.config import load_eval_config
from prv2cli.files.atomic import TEMP_SUFFIX, _machine, machine, remove_leftovers
from prv2cli.files.text import shown
from prv2cli.jobs import claims as claims_module
from prv2cli.jobs.batch import BatchSettings
from prv2cli.jobs.claims import Claims
from prv2cli.jobs.engines.local import run_batch
from prv2cli.jobs.planning.find import find_photographs, listed_photographs
from prv2cli.jobs.planning.outputs import plan
from prv2cli.photo.on_disk import photo_on_disk
from prv2cli.photo.read import read_photo
from prv2cli.training.config.load import load_train_config

PHOTOGRAPHS, DEPTH_MAPS = photographs(), depth_maps()
SECONDS = 2.0  # of this process's time, for any one input


@contextmanager
def untraced() -> Iterator[None]:
    """Without what counts coverage: it makes deep recursion several times as slow, and the bound is the program's."""
    trace = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(trace)


MEGABYTES = 250
MAX_PIXELS = 100_000
FLIPS, CUTS = 200, 20


def answer(function: Callable[[], Any]) -> Any:
    """The result, or None after one of our own errors on one line. Nothing may take long."""
    start = time.process_time()
    found, refusal = None, None
    try:
        found = function()
    except Prv2Error as error:
        refusal = str(error)
    finally:
        assert time.process_time() - start < SECONDS
    if refusal is not None:
        assert len(refusal.splitlines()) == 1, refusal
        assert "\x1b" not in refusal
        refusal.encode()  # can be printed anywhere
    return found


def flipped(data: bytes, count: int = FLIPS) -> list[bytes]:
    """Copies with one to three bits changed; every other one near the start, where the structure is."""
    rng = random.Random(len(data))
    copies = []
    for i in range(count):
        copy = bytearray(data)
        for _ in range(rng.randint(1, 3)):
            copy[rng.randrange(min(len(data), 400) if i % 2 else len(data))] ^= 1 << rng.randrange(8)
        copies.append(bytes(copy))
    return copies


def cut(data: bytes) -> list[bytes]:
    return [data[: len(data) * i // CUTS] for i in range(CUTS)]


# --- Damage -------------------------------------------------------------------------------------------------


def onto_disk(path: Path) -> np.ndarray:
    with photo_on_disk(path, path.parent, max_pixels=MAX_PIXELS) as photo:
        return np.asarray(photo.rgb[:])


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_damaged_photographs(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(PHOTOGRAPHS[name])
    assert onto_disk(path).shape == read_photo(path).rgb.shape
    for i, data in enumerate(flipped(PHOTOGRAPHS[name])):
        path.write_bytes(data)
        whole = answer(lambda: read_photo(path, max_pixels=MAX_PIXELS).rgb)
        if whole is not None:
            assert whole.ndim == 3
            assert whole.shape[2] == 3
            assert whole.dtype in (np.uint8, np.uint16)
        if i % 4 == 0:
            in_bands = answer(lambda: onto_disk(path))
            assert in_bands is None if whole is None else np.array_equal(in_bands, whole)
    path.write_bytes(PHOTOGRAPHS[name])
    pixels = read_photo(path).rgb
    for data in cut(PHOTOGRAPHS[name]):  # refused, or all pixels were there
        path.write_bytes(data)
        photo = answer(lambda: read_photo(path))
        assert photo is None or (photo.notes and np.array_equal(photo.rgb, pixels))
        in_bands = answer(lambda: onto_disk(path))
        assert in_bands is None if photo is None else np.array_equal(in_bands, pixels)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", DEPTH_MAPS)
def test_damaged_depth_maps(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    for data in (*flipped(DEPTH_MAPS[name]), *cut(DEPTH_MAPS[name])):
        path.write_bytes(data)
        found = answer(lambda: read_depth(path, scale=1))
        if found is not None:
            valid = found.values[~np.isnan(found.values)]
            assert np.isfinite(valid).all()
            assert (valid > 0).all()
        info = answer(lambda: depth_info(path))
        assert info is None or json.dumps(info, allow_nan=False)
        answer(lambda: read_depth_metadata(path))


@pytest.mark.parametrize(
    "suffix", [".jpg", ".png", ".webp", ".tif", ".bmp", ".heic", ".npy", ".exr", ".txt", ""]
)
def test_wrong_extensions(suffix: str, tmp_path: Path) -> None:
    wrong = tmp_path / f"wrong{suffix}"
    for name, data in PHOTOGRAPHS.items():
        right = tmp_path / name
        right.write_bytes(data)
        wrong.write_bytes(data)
        np.testing.assert_array_equal(read_photo(wrong).rgb, read_photo(right).rgb)
        assert (
            answer(lambda: read_depth(wrong, scale=1)) is None or name == "lzma.tif"
        )  # 16-bit grey: a map to us
    for name, data in DEPTH_MAPS.items():
        wrong.write_bytes(data)
        assert read_depth(wrong, scale=1).values.shape == (13, 19), name


# --- Bombs --------------------------------------------------------------------------------------------------

MEASURE = """
import resource, sys, time
from pathlib import Path
from prv2cli.depth_files.read import read_depth, read_depth_metadata
from prv2cli.errors import Prv2Error
from prv2cli.photo.on_disk import photo_on_disk
from prv2cli.photo.read import read_photo

def onto_disk(path):
    with photo_on_disk(path, path.parent):
        pass

sizes = {"linux": 1024}.get(sys.platform, 1)  # the unit of ru_maxrss
for path in map(Path, sys.argv[1:]):
    for function in (read_photo, onto_disk, lambda path: read_depth(path, scale=1), read_depth_metadata):
        start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            function(path)
        except Prv2Error as error:
            assert len(str(error).splitlines()) == 1
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * sizes >> 20
        print(path.stem, round(time.process_time() - start, 2), grown, sep=";", flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="measures with POSIX means")
def test_bombs_take_neither_memory_nor_time(tmp_path: Path) -> None:
    paths = []
    for name, data in {"(a warm-up)": PHOTOGRAPHS["plain.tif"], **bombs()}.items():
        paths.append(tmp_path / f"{name}.bin")
        paths[-1].write_bytes(data)
        assert len(data) < 2 << 20
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *paths],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split(";") for line in done.stdout.splitlines()]
    assert len(rows) == 4 * len(paths)
    slow = [row for row in rows if float(row[1]) > SECONDS]
    large = [row for row in rows if int(row[2]) > MEGABYTES]
    assert not slow
    assert not large


def test_16000_pages(tmp_path: Path) -> None:
    path = tmp_path / "pages.tif"
    path.write_bytes(many_pages(16_000))
    start = time.process_time()
    photo = read_photo(path)
    assert photo.rgb.shape == (4, 4, 3)
    assert photo.notes == ("16000 pages: only the first is read",)
    with pytest.raises(InputError, match="a TIFF of 16000 pages; a depth map is one"):
        read_depth(path, scale=1)
    assert time.process_time() - start < 2 * SECONDS


def test_missing_planes_are_not_read_as_whatever_lies_in_memory(tmp_path: Path) -> None:
    """Found by fuzzing: a PlanarConfiguration of another type makes one strip stand for three."""
    data = PHOTOGRAPHS["predictor.tif"]
    odd = data.replace(struct.pack("<HH", 284, 3), struct.pack("<HH", 284, 7))
    assert odd != data
    path = tmp_path / "planes.tif"
    path.write_bytes(odd)
    for read in (read_photo, onto_disk):
        with pytest.raises(
            InputError, match=r"planes\.tif: damaged or cut short \(strips or tiles are missing"
        ):
            read(path)


# --- Metadata that lies -------------------------------------------------------------------------------------

ESCAPES = "a\x1b[2J\n\u202eb\ud800\x00"
DEEP = json.loads("[" * 200 + "]" * 200)
LIES: list[dict[str, Any]] = [
    {"scale": 1e300},
    {"unit": "1/metre"},
    {"clipped": -1},
    {"focal_px": -3.0},
    {"software": "prv2cli", "version": 3},
    {"model": ESCAPES, "version": ESCAPES},
    {"extra": {"deep": DEEP}},
    {"extra": {"large": "1e999"}},
]


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: next(iter(lie)))
@pytest.mark.parametrize("fmt", FORMATS)
def test_lies_inside_a_file(
    fmt: str, lie: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fmt == "exr":
        pytest.importorskip("OpenEXR")
    honest = json.loads(METADATA.to_json())
    text = json.dumps({**honest, **lie}).replace('"1e999"', "1e999")
    with monkeypatch.context() as patch:
        patch.setattr(DepthMetadata, "to_json", lambda self: text)
        data = written(fmt, dtype="float32" if fmt == "tif" else "uint16")
    path = tmp_path / f"lie.{fmt}"
    path.write_bytes(data)
    if "model" in lie:  # no lie, but not fit to print
        info = depth_info(path)
        assert info["model"] == info["version"] == r"a\x1b[2J\n\u202eb\ud800\x00"
        assert str(read_depth_metadata(path)) == str(read_depth(path).metadata)  # NaN is not NaN
        convert(path, tmp_path / "again.npy")
        assert depth_info(tmp_path / "again.npy")["model"] == info["model"]
        return
    for read in (read_depth, depth_info, read_depth_metadata, lambda p: convert(p, tmp_path / "no.npy")):
        with pytest.raises(InputError, match=rf"lie\.{fmt}: the prv2 metadata is wrong"):
            read(path)
    assert not (tmp_path / "no.npy").exists()


def test_metadata_as_deep_as_the_limit_is_written_again() -> None:
    text = METADATA.to_json().replace('"seam": 0.01', '"deep": ' + "[" * 40 + "]" * 40)
    again = DepthMetadata.from_json(text)
    assert DepthMetadata.from_json(again.to_json()).extra == again.extra == json.loads(text)["extra"]


# --- Names and links ----------------------------------------------------------------------------------------

NAMES = [
    b"new\nline.png",
    b"many\n\n\nlines.png",
    b"quote\"'`$(touch x).png",
    b" spaces .png",
    b"-o.png",
    b"*?[a].png",
    b"{stem}.png",
    b"back\\slash.png",
    "emoji 🦊.png".encode(),
    "e\u0301 and \u202egnp.exe.png".encode(),
    b"colour \x1b[31m.png",
    b"no text \xff\xfe.png",
    b"x" * 251 + b".png",
]
BROKEN = {b"broken\n.png": b"\x89PNG\r\n\x1a\n", b"empty.jpg": b"", b"page.jpg": b"<html>"}


def make(folder: Path, name: bytes, data: bytes) -> None:
    try:
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:  # noqa: PTH118, PTH123 - bytes
            file.write(data)
    except OSError:  # a file system that takes text only
        pytest.skip(f"no file can be called {name!r} here")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Good photographs with odd names, broken ones, and links in circles."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in NAMES:
        make(folder, name, PHOTOGRAPHS["alpha.png"])
    for name, data in BROKEN.items():
        make(folder, name, data)
    (folder / "itself.png").symlink_to("itself.png")
    (folder / "nowhere.png").symlink_to("../gone.png")
    (folder / "folder.png").mkdir()
    for link in ("again", "once more"):
        (folder / link).symlink_to(".")
    (folder / "up").symlink_to("..")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.png")
    return folder


def tree(folder: Path) -> dict[bytes, bytes]:
    return {
        os.fsencode(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
    }


def test_a_batch_of_odd_names_broken_files_and_circular_links(corpus: Path, tmp_path: Path) -> None:
    before, out = tree(corpus), tmp_path / "out"
    found = find_photographs([corpus], recursive=True, leave_out=out)
    jobs = plan(found.photographs, out, "{stem}", ".tif").jobs
    refiner: Any = FakeRefiner()
    outcomes = list(run_batch(jobs, refiner, BatchSettings(Encoding("tiff")), Claims(out)))
    done = {os.fsencode(outcome.job.source.name) for outcome in outcomes if outcome.state == "done"}
    failed = {os.fsencode(outcome.job.source.name): outcome.error for outcome in outcomes if outcome.error}
    assert done == set(NAMES)
    assert set(failed) == {*BROKEN, b"itself.png", b"nowhere.png"}
    for error in failed.values():
        assert error is not None
        assert len(error.splitlines()) == 1
        assert error.isprintable()
        json.dumps(error).encode()
    assert tree(corpus) == before
    assert set(tree(out)) == {name[:-4] + b".tif" for name in NAMES}
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}


def test_the_command_says_that_some_failed(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from prv2cli.refine.refiner import Refiner

    monkeypatch.setattr(Refiner, "load", lambda *_: FakeRefiner())
    with pytest.raises(SystemExit) as ended:
        main(
            [
                "batch",
                str(corpus),
                "-o",
                str(tmp_path / "out"),
                "--json",
                "--coarse",
                "lite",
                "-m",
                "refiner-s",
            ]
        )
    assert ended.value.code == 1
    printed, told = capsys.readouterr()
    states = [json.loads(line)["state"] for line in printed.splitlines()]
    assert (states.count("done"), states.count("failed")) == (len(NAMES), len(BROKEN) + 2)
    assert sum(line.startswith("error: ") for line in told.splitlines()) == len(BROKEN) + 2
    assert "Traceback" not in told
    assert "bug" not in told
    assert "\x1b" not in told


@pytest.mark.parametrize("command", [["info"], ["convert"]])
def test_the_commands_for_depth_files(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = tmp_path / "a\n\x1b[31m\udcff.npy"
    good.write_bytes(DEPTH_MAPS["prv2.npy"])
    bad = tmp_path / "b\nc.npy"
    bad.write_bytes(DEPTH_MAPS["prv2.npy"][:100])
    loop = tmp_path / "loop.npy"
    loop.symlink_to(loop)
    target = [str(tmp_path / "out.png")] if command == ["convert"] else []
    for path, code in ((good, 0), (bad, 1), (loop, 1), (tmp_path / ("x" * 300), 1), (tmp_path, 1)):
        with pytest.raises(SystemExit) as ended:
            main([*command, str(path), *target])
        told = capsys.readouterr().err
        assert ended.value.code == code, told
        assert len(told.splitlines()) <= 1 or code == 0
        assert "Traceback" not in told
        assert "bug" not in told


def test_patterns_do_not_run_in_circles(corpus: Path, tmp_path: Path) -> None:
    found = find_photographs(
        [corpus / "**" / "*.png"], recursive=False, leave_out=tmp_path / "out"
    ).photographs
    names = {os.fsencode(path.name) for path, _ in found if path.parent == corpus}
    assert names >= set(NAMES)
    assert {path.parent for path, _ in found} <= {corpus, corpus / "folder.png"}
    (corpus / ".hidden.png").write_bytes(b"")
    assert corpus / ".hidden.png" not in [
        path for path, _ in find_photographs([corpus / "*"], recursive=False, leave_out=tmp_path).photographs
    ]
    with pytest.raises(InputError, match="nothing matches"):
        find_photographs([corpus / "*.gif"], recursive=False, leave_out=tmp_path)
    with pytest.raises(InputError, match=r"x{300}: no such file"):
        find_photographs([corpus / ("x" * 300)], recursive=False, leave_out=tmp_path)


OUTSIDE = [
    b"../a.png",
    b"/etc/b.png",
    b"c/../../d.png",
    b"..",
    b".",
    b"/",
    b"//",
    b"e/..",
    b"...png",
    b"..png",
    b"\xff/..",
]


@pytest.mark.parametrize(
    "template", ["{stem}", "{name}", "{stem}/{name}", "{name}/{stem}", "a/{stem}/b", "{suffix}/{name}"]
)
def test_no_output_outside_of_the_folder(template: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    planned = 0
    for line in OUTSIDE:
        listed = listed_photographs(line, nul=False).photographs
        for job in plan(listed, out, template, ".tif").jobs:
            planned += 1
            assert os.path.abspath(job.target).startswith(f"{out}{os.sep}"), line  # noqa: PTH100 - lexical
    assert planned >= 4


@pytest.mark.parametrize(
    "template",
    [
        "{stem:>99999999999}",
        "{stem!r}",
        "{stem.__class__}",
        "{stem[0]}",
        "{",
        "../{stem}",
        "{\n.\nb}",
        "{a!\x1b[31m}",
    ],
)
def test_templates_that_are_refused(template: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--name") as found:
        plan([(Path("a.png"), Path())], tmp_path, template, ".tif")
    assert len(str(found.value).splitlines()) == 1
    assert "\x1b" not in str(found.value)


def test_names_in_messages() -> None:
    assert shown(Path("Größe 🦊 'x'.png")) == "Größe 🦊 'x'.png"
    assert shown(b"a\nb\t\x1b\xff") == shown("a\nb\t\x1b\udcff") == r"a\nb\t\x1b\xff"
    assert shown("\u2028\u202e\ud83d") == r"\u2028\u202e\ud83d"


# --- Places to write to -------------------------------------------------------------------------------------


def outcomes_in(out: Path, tmp_path: Path) -> list[Any]:
    photo = tmp_path / "a.png"
    photo.write_bytes(PHOTOGRAPHS["alpha.png"])
    jobs = plan([(photo, tmp_path)], out, "{stem}", ".tif").jobs
    refiner: Any = FakeRefiner()
    return list(run_batch(jobs, refiner, BatchSettings(Encoding("tiff")), Claims(out)))


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_an_output_folder_that_takes_no_files(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(claims_module.json, "dump", refuse)
    out = tmp_path / "out"
    if code == errno.ENOSPC:  # what follows would fail as well: the batch ends
        with pytest.raises(DiskFullError, match="no space left"):
            outcomes_in(out, tmp_path)
    else:
        (outcome,) = outcomes_in(out, tmp_path)
        assert outcome.state == "failed"
        assert outcome.error == f"{outcome.job.source}: {out}: no permission to write there; write elsewhere"
    assert tree(tmp_path / "out") == {}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o555)
    (outcome,) = outcomes_in(out, tmp_path)
    assert outcome.error == f"{outcome.job.source}: {out}: no permission to write there; write elsewhere"


def test_a_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"mine")
    (outcome,) = outcomes_in(tmp_path / "out" / "below", tmp_path)
    assert "Not a directory" in str(outcome.error)
    assert (tmp_path / "out").read_bytes() == b"mine"


@pytest.mark.parametrize(
    "owner", ["[" * 100_000, '{"host": 1}', "[]", '{"host": "HERE", "pid": 1e999}', "HUGE", ""]
)
def test_claims_that_nobody_can_have_made(owner: str, tmp_path: Path) -> None:
    """They expire like all others, also when their time is to come."""
    text = json.dumps({"host": machine(), "pid": 10**30}) if owner == "HUGE" else owner
    claims = Claims(tmp_path, expires=60)
    assert claims.acquire(tmp_path / "a.tif")
    (claim,) = claims.folder.iterdir()
    claim.write_text(text.replace("HERE", machine()), encoding="utf-8")
    other = Claims(tmp_path, expires=60)
    assert other.acquire(tmp_path / "a.tif") == (owner == "HUGE")  # no process has such a number
    os.utime(claim, (time.time() + 1e6,) * 2)
    assert other.acquire(tmp_path / "a.tif")
    other.release_all()
    claims.release_all()


def test_leftovers_with_names_that_are_no_processes(tmp_path: Path) -> None:
    for owner in ("1", "a-b", f"{_machine()}-{10**30}-ab", "0-0-0-0", f"{_machine()}-x-ab"):
        (tmp_path / f".a.{owner}{TEMP_SUFFIX}").write_bytes(b"")
    assert remove_leftovers(tmp_path) == 1


# --- Configurations -----------------------------------------------------------------------------------------

LAUGHS = "a0: &a0 [1, 1]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30)
)
CONFIGS = {
    "aliases": f"{LAUGHS}steps: *a29\n",
    "aliases in a list": f"{LAUGHS}stage: refine\nmodel: {{kind: refiner, c2f: {{widths: *a29}}}}\nsteps: 1\n",
    "a circle": "stage: &a [*a]\n",
    "a circle of keys": "model: &a {kind: refiner, c2f: *a}\nstage: refine\nsteps: 1\n",
    "depth": "[" * 3000,
    "impossible date": "stage: 2001-99-99\n",
    "early date": "stage: 0001-01-01T00:00:00+23:59\n",
    "timestamp": "stage: !!timestamp x\n",
    "boolean": "stage: !!bool x\n",
    "no number": "steps: !!int ''\n",
    "huge number": f"steps: {'1' * 5000}\n",
    "object": "stage: !!python/object/apply:os.system [ls]\n",
    "control codes": 'stage: "\\x1b[2J\\n\\n\\n"\n"a\\nb\\nc": 1\n',
    "odd keys": "1: 2\n[1]: 3\n",
    "other keys": "1: 2\nnull: 3\n",
    "bytes": "stage: \udcff\udcfe\n",
    "NUL": "stage: \0\n",
    "infinite": "stage: refine\nmodel: {kind: refiner}\nsteps: .inf\n",
    "many levels": "stage: refine\nmodel: {kind: refiner, encoder: {levels: 999999999}}\nsteps: 1\n",
    "empty": "",
    "list": "- 1\n",
}


@pytest.mark.parametrize("load", [load_train_config, load_eval_config])
@pytest.mark.parametrize("name", CONFIGS)
def test_configurations(name: str, load: Callable[[Path], Any], tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_bytes(os.fsencode(CONFIGS[name]))
    start = time.process_time()
    with untraced(), pytest.raises(ConfigError, match=r"odd\.yaml: ") as raised:
        load(path)
    assert len(str(raised.value).splitlines()) == 1
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 1500
    assert time.process_time() - start < SECONDS


@pytest.mark.parametrize(
    "override",
    [
        "steps=!!timestamp x",
        "steps=2001-99-99",
        f"steps={'[' * 3000}",
        "steps=!!int ''",
        "steps=[",
        "=1",
        "a",
    ],
)
def test_overrides(override: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("stage: coarse\nmodel: {kind: lite}\nsteps: 1\n", encoding="utf-8")
    assert load_train_config(path, ["steps=2"]).steps == 2
    with pytest.raises(ConfigError):
        load_train_config(path, [override])


def test_a_configuration_that_cannot_be_a_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / ("x" * 300), Path("a\0b"), tmp_path / "gone\n"):
        with pytest.raises(ConfigError, match="--config") as raised:
            load_train_config(path)
        assert len(str(raised.value).splitlines()) == 1
