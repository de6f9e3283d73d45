"""Damage files at random, minutes long, and keep what is answered by anything but a result or one clear error.

python tests/fuzz/run.py --minutes 10 --keep FOLDER [--seed N] [--only photo,depth,metadata,config,...]

Every input runs in a child process with a limit on its memory: a crash of a decoder, a hang and a memory bomb
are found as well as a traceback. Not collected by pytest; what it finds becomes a case of tests/test_hostile.py.
"""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import io
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "support"), str(TESTS.parent)]

import numpy as np  # noqa: E402
import phone_photos as phone  # noqa: E402
from hostile_files import depth_maps, photographs  # noqa: E402

from prv2cli.depth_files.convert import convert  # noqa: E402
from prv2cli.depth_files.given_map import read_inside  # noqa: E402
from prv2cli.depth_files.info import depth_info  # noqa: E402
from prv2cli.depth_files.ours.metadata import DepthMetadata  # noqa: E402
from prv2cli.depth_files.read import read_depth, read_depth_metadata  # noqa: E402
from prv2cli.errors import Prv2Error  # noqa: E402
from prv2cli.evaluation.config import load_eval_config  # noqa: E402
from prv2cli.hub.cache import Known, Record, RepoCache  # noqa: E402
from prv2cli.hub.registry import read_registry  # noqa: E402
from prv2cli.hub.resolve import (  # noqa: E402
    OURS,
    auto_coarse,
    cached,
    check,
    entry_of,
    resolve,
    verify,
    weights_folder,
)
from prv2cli.jobs.planning.find import find_photographs, listed_photographs  # noqa: E402
from prv2cli.jobs.planning.outputs import plan  # noqa: E402
from prv2cli.model.config import parse_model_config  # noqa: E402
from prv2cli.photo.on_disk import photo_on_disk  # noqa: E402
from prv2cli.photo.read import read_photo  # noqa: E402
from prv2cli.training.config.load import load_train_config  # noqa: E402

SECONDS = 5  # an input that takes longer hangs
MEMORY = 1 << 30  # bytes of address space, beside what the libraries have taken
MAX_PIXELS = 1_000_000
PER_CHILD = 200  # inputs
# Numbers that headers do not expect.
ODD = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x10000, 3, 14]


class Bad(Exception):
    """A wrong answer that is no exception."""


# --- What is damaged ----------------------------------------------------------------------------------------


def configurations() -> list[bytes]:
    files = [path.read_bytes() for path in sorted((TESTS.parent / "configs").glob("*.yaml"))]
    return [
        *files,
        b"stage: refine\nmodel: {kind: refiner, c2f: {widths: &a [32, 64]}, f2c: {widths: *a}}\nsteps: 3\n",
    ]


def evaluations() -> list[bytes]:
    return [
        b"data: {layout: eth3d, root: /nowhere}\nmodel: lite\nmeasure: {crop: garg, max_depth: 80}\n",
        b"data: &a {layout: folder, root: x}\ncoarse: lite\nmodel: refiner-s\ntile: 512\nmeasure: *a\n",
    ]


def registries() -> list[bytes]:
    """The shipped one, and its first and last models, where more of the damage meets."""
    whole = (weights_folder() / "registry.yaml").read_bytes()
    refiner, *_, lite = whole.split(b"\n\n")
    free = [part for part in whole.split(b"\n\n") if b"-small" in part]
    return [whole, b"\n\n".join([refiner, *free, lite])]


def records() -> list[bytes]:
    known = Known(sha256="a" * 64, size=3, changed=5)
    full = Record(
        revisions={"main": "b" * 40}, files={f"{'b' * 40}/{OURS}": known}, folders={"b" * 40: [OURS]}
    )
    return [full.model_dump_json().encode()]


def names() -> list[bytes]:
    return [
        b"a.jpg\nb/c.png\n../d.tif\n/e/f.webp",
        b"...jpg\n..\n.\n~/x\n{stem}\n*.jpg\n[a]\n**/x",
        b"lite\nhf:a/b\na/b\nauto\n./x",
    ]


METADATA = [DepthMetadata(model="a", focal_px=2.5, extra={"x": [1, {"y": None}]}).to_json().encode()]
TOKENS = [
    *(
        b"NaN",
        b"1e999",
        b"-1",
        b"0",
        b"null",
        b"true",
        b'"',
        b"\\ud800",
        b"\\n",
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
    ),
    *(b"1" * 600, b"[" * 500, b"&a", b"*a", b"!!timestamp x", b"2001-99-99", b"- ", b"? ", b"<<: ", b"\n"),
    *(
        b"\x1b[31m",
        b"\xff",
        "😀".encode(),
        b"..",
        b"/",
        b"\0",
        b"a" * 300,
        b"!!python/object:x",
        b"0x",
        b"1_0:9",
    ),
    *(b"{stem:9}", b"!!bool x", b"!!int ''", b".inf", b".nan", b"0001-01-01T00:00:00+23:59", b"%", b"|\n"),
]


# --- How ----------------------------------------------------------------------------------------------------


def damaged(data: bytes, rng: random.Random, *, text: bool) -> bytes:
    """A few random changes, most of them near the start, where the structure is."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        end = max(1, len(out))
        at = rng.randrange(min(end, 300) if rng.random() < 0.5 else end)
        kind = rng.randrange(9)
        if text and kind >= 5:
            out[at:at] = rng.choice(TOKENS)
        elif kind <= 2 and out:
            out[min(at, len(out) - 1)] ^= 1 << rng.randrange(8)
        elif kind == 3:
            del out[at:]
        elif kind == 4:
            del out[at : at + rng.randrange(1, 30)]
        elif kind == 5:
            out[at:at] = out[at : at + rng.randrange(1, 60)] * rng.choice((1, 2, 50))
        elif kind == 6:
            out[at:at] = rng.randbytes(rng.randrange(1, 9))
        else:
            size = rng.choice((1, 2, 4, 8))
            number = rng.choice(ODD) & (256**size - 1)
            out[at : at + size] = number.to_bytes(size, rng.choice(("little", "big")))
    return bytes(out)


# --- What must not happen -----------------------------------------------------------------------------------


def photo(data: bytes, folder: Path) -> None:
    whole = _answer(lambda: read_photo(io.BytesIO(data), max_pixels=MAX_PIXELS).rgb)
    (folder / "photo").write_bytes(data)

    def in_bands() -> np.ndarray:
        with photo_on_disk(folder / "photo", folder, max_pixels=MAX_PIXELS) as found:
            return np.asarray(found.rgb[:])

    banded = _answer(in_bands)
    if whole is not None and banded is not None and not np.array_equal(whole, banded):
        raise Bad("whole and in bands differ")
    if whole is not None and (
        whole.ndim != 3 or whole.shape[2] != 3 or whole.dtype not in (np.uint8, np.uint16)
    ):
        raise Bad(f"a photograph of {whole.dtype} {whole.shape}")


def depth(data: bytes, folder: Path) -> None:
    path = folder / "depth.file"
    path.write_bytes(data)
    found = _answer(lambda: read_depth(path, scale=1))
    if found is not None:
        valid = found.values[~np.isnan(found.values)]
        if found.values.ndim != 2 or not np.isfinite(valid).all() or not (valid > 0).all():
            raise Bad("values that are no depth")
    _answer(lambda: json.dumps(depth_info(path), allow_nan=False))
    _answer(lambda: read_depth_metadata(path))
    _answer(lambda: convert(path, folder / "out.npy", scale=1))
    _answer(lambda: convert(path, folder / "out.png", inverse=True))


def embedded(data: bytes, folder: Path) -> None:
    found = _answer(lambda: read_inside(io.BytesIO(data), "photo"))
    if found is not None and (found.values.ndim != 2 or np.isinf(found.values).any()):
        raise Bad("a map that is none")


def phones() -> list[bytes]:
    """Photographs with depth of every kind inside."""
    levels, deep = phone.levels(), phone.levels(16)
    return [
        phone.gdepth(phone.encoded(levels), Format="RangeInverse", Near="0.5", Far="8"),
        phone.gdepth(phone.encoded(deep), extended=True, Format="RangeLinear", Near="0.5", Far="8"),
        phone.dynamic_depth(phone.encoded(levels)),
        phone.apple_jpeg(levels),
        phone.heic(levels),
    ]


def metadata(data: bytes, folder: Path) -> None:
    text = data.decode("latin-1")
    found = _answer(lambda: DepthMetadata.from_json(text))
    if found is not None:
        again = DepthMetadata.from_json(found.to_json())
        if again.to_json() != found.to_json():
            raise Bad("metadata changes on the way")
        f"{found.model} {found.version} {found.coarse}".encode()


def config(data: bytes, folder: Path) -> None:
    path = folder / "config.yaml"
    path.write_bytes(data)
    _answer(lambda: load_train_config(path))
    text = data.decode("utf-8", "replace")
    _answer(lambda: load_train_config(TESTS.parent / "configs" / "refiner-s.yaml", text.splitlines()[:2]))
    _answer(lambda: parse_model_config({"kind": text[:20], "coarse": text, 1: text}, "model"))


def evaluation(data: bytes, folder: Path) -> None:
    path = folder / "eval.yaml"
    path.write_bytes(data)
    _answer(lambda: load_eval_config(path))
    _answer(lambda: load_eval_config(path, {"measure.crop": "garg", "model": "lite"}))


def registry(data: bytes, folder: Path) -> None:
    path = folder / "registry.yaml"
    path.write_bytes(data)
    entries = _answer(lambda: read_registry(path))
    if entries is None:
        return
    with patch("prv2cli.hub.resolve._entries", lambda: entries):
        for name, entry in entries.items():
            check(name)
            if entry_of(name) != entry:
                raise Bad(f"{name} is not what its entry says")
            found = _answer(lambda name=name: resolve(name, offline=True, cache_dir=folder))  # type: ignore[misc]
            if found is not None and found.path.parent != weights_folder():
                raise Bad(f"{found.path} is not of the package")
        for scene in (None, "indoor", "outdoor"):
            _answer(lambda scene=scene: auto_coarse(scene, offline=True, cache_dir=folder))  # type: ignore[misc]


def record(data: bytes, folder: Path) -> None:
    """A repository of one file in the cache, and a damaged record of it."""
    cache = RepoCache(folder, "them/net")
    file = cache.file("b" * 40, OURS)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"abc")
    (cache.folder / "prv2.json").write_bytes(data)
    for revision in (None, "b" * 40, "main", "../x"):
        found = _answer(
            lambda revision=revision: resolve(  # type: ignore[misc]
                "them/net", revision=revision, offline=True, cache_dir=folder
            )
        )
        if found is not None and cache.folder not in found.path.parents:
            raise Bad(f"{found.path} is not in the cache")
        (cache.folder / "prv2.json").write_bytes(data)
    _answer(lambda: cached("them/net", cache_dir=folder))
    _answer(lambda: verify("them/net", cache_dir=folder))


def name_list(data: bytes, folder: Path) -> None:
    out = folder / "out"
    listed = [_answer(lambda nul=nul: listed_photographs(data, nul=nul)) for nul in (False, True)]  # type: ignore[misc]
    found = [photograph for one in listed if one is not None for photograph in one.photographs]
    for template in ("{stem}", "{name}/{stem}", data.decode("utf-8", "replace")[:40]):
        planned = _answer(lambda template=template: plan(found, out, template, ".tif"))  # type: ignore[misc]
        for job in planned.jobs if planned is not None else ():
            if not os.path.abspath(job.target).startswith(f"{out}{os.sep}"):  # noqa: PTH100 - lexical
                raise Bad(f"{job.target} is not in the output folder")
    for line in data.split(b"\n")[:4]:
        given = Path(os.fsdecode(line))
        if not given.is_absolute() and ".." not in given.parts:
            _answer(lambda given=given: find_photographs([folder / given], recursive=True, leave_out=out))  # type: ignore[misc]
        _answer(lambda line=line: check(os.fsdecode(line)))  # type: ignore[misc]


def _answer(function: Callable[[], Any]) -> Any:
    """The result; None after one of our own errors, whose message must be printable and short."""
    try:
        return function()
    except Prv2Error as error:
        message = str(error)
        lines = message.splitlines()
        if not 1 <= len(lines) <= 2 or len(message) > 4000 or "\x1b" in message:
            raise Bad(f"a message of {len(lines)} lines and {len(message)} characters") from error
        message.encode()
        return None


TARGETS: dict[str, tuple[Callable[[], list[bytes]], Callable[[bytes, Path], None], bool]] = {
    "photo": (lambda: list(photographs().values()), photo, False),
    "depth": (lambda: list(depth_maps().values()), depth, False),
    "embedded": (phones, embedded, False),
    "metadata": (lambda: METADATA, metadata, True),
    "config": (configurations, config, True),
    "eval": (evaluations, evaluation, True),
    "registry": (registries, registry, True),
    "record": (records, record, True),
    "names": (names, name_list, True),
}


# --- Running ------------------------------------------------------------------------------------------------


def child(target: str, seeds: list[bytes], seed: int, report: Path) -> None:
    """Run PER_CHILD inputs; the one in progress lies in the report's folder, so that a crash leaves it there."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.stderr = (report / "stderr").open("w")
    os.dup2(sys.stderr.fileno(), 2)
    faulthandler.enable(file=sys.stderr)
    rng = random.Random(seed)
    _, function, text = TARGETS[target]
    with tempfile.TemporaryDirectory() as name:
        for count in range(PER_CHILD):
            data = damaged(rng.choice(seeds), rng, text=text)
            (report / "input").write_bytes(data)
            signal.alarm(SECONDS)  # not handled: a decoder in C would not let a handler run
            try:
                function(data, Path(name))
            except BaseException as error:
                if isinstance(error, RecursionError | MemoryError | Exception):
                    (report / "error").write_text(traceback.format_exc())
                    os._exit(3)
                raise
            signal.alarm(0)
            (report / "count").write_text(str(count + 1))
    os._exit(0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default=",".join(TARGETS))
    parser.add_argument("--keep", type=Path, required=True, help="folder for the inputs that fail")
    options = parser.parse_args()
    options.keep.mkdir(parents=True, exist_ok=True)
    chosen = options.only.split(",")
    seeds = {target: TARGETS[target][0]() for target in chosen}
    until = time.monotonic() + 60 * options.minutes
    runs: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    seed = options.seed
    while time.monotonic() < until:
        for target in chosen:
            seed += 1
            with tempfile.TemporaryDirectory() as name:
                report = Path(name)
                pid = os.fork()
                if pid == 0:
                    child(target, seeds[target], seed, report)
                _, status = os.waitpid(pid, 0)
                count = report / "count"
                runs[target] += int(count.read_text()) if count.exists() else 0
                if status:
                    failures[_keep(options.keep, target, report, status)] += 1
    print("inputs:", dict(runs))
    for failure, times in failures.most_common():
        print(f"{times:5} x {failure}")
    return 1 if failures else 0


def _keep(folder: Path, target: str, report: Path, status: int) -> str:
    """Keep the first input of each kind of failure; what the failure is called."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        what = f"longer than {SECONDS} s" if number == signal.SIGALRM else signal.Signals(number).name
        details = (report / "stderr").read_text(errors="replace")
        where = ""
    else:
        details = (report / "error").read_text() if (report / "error").exists() else f"exit {status}"
        what = details.strip().splitlines()[-1][:120]
        lines = [line.strip() for line in details.splitlines() if "prv2cli" in line and "File" in line]
        where = lines[-1] if lines else ""
    key = hashlib.sha256(f"{target}{what.split(':')[0]}{where}".encode()).hexdigest()[:8]
    path = folder / f"{target}-{key}"
    if not path.exists():
        path.write_bytes((report / "input").read_bytes())
        path.with_name(f"{path.name}.txt").write_text(details)
        print(f"{path}: {what} {where}", flush=True)
    return f"{target} {key}: {what.split(':')[0]} {where}"


if __name__ == "__main__":
    sys.exit(main())
