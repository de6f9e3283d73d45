"""`prv2 models`: its tables, its JSON, its exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hub_server import HubServer

from prv2cli.cli import app
from prv2cli.hub.resolve import OURS, registry, resolve

CONTENT = b"weights" * 10_000


class Answer(NamedTuple):
    """Exit code, stdout, stderr."""

    code: int
    out: str
    err: str


Models = Callable[..., Answer]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    with HubServer() as started:
        started.use(monkeypatch, tmp_path / "cache")
        yield started


@pytest.fixture
def models(server: HubServer, capsys: pytest.CaptureFixture[str]) -> Models:
    """`prv2 models` with an empty cache."""

    def call(*arguments: object) -> Answer:
        capsys.readouterr()
        code = app._run(["models", *map(str, arguments)], debug=False)
        return Answer(code, *capsys.readouterr())

    return call


def test_list_says_what_there_is_and_what_is_here(models: Models, server: HubServer) -> None:
    answer = models("list")
    assert (answer.code, answer.err) == (0, "")
    rows = {line.split()[0]: line for line in answer.out.splitlines()}
    assert set(rows) == {"name", *registry()}
    megabytes = f"{resolve('lite').path.stat().st_size / 1e6:.1f}"
    assert rows["lite"].split()[1:6] == ["coarse", "embedded", megabytes, "MB", "MIT,"]
    assert rows["dav2-vkitti-large"].split()[1:7] == [
        "coarse",
        "not",
        "cached",
        "1341.4",
        "MB",
        "not",
    ]
    assert "outdoor, synthetic (Virtual KITTI 2)" in rows["dav2-vkitti-large"]
    assert server.requests == []
    server.add_repo("org/name", {OURS: CONTENT})
    models("pull", "org/name")
    assert models("list").out.splitlines()[-1].split() == ["org/name", "-", "cached", "0.1", "MB", "-", "-"]


def test_list_as_json(models: Models, server: HubServer) -> None:
    commit = server.add_repo("org/name", {OURS: CONTENT})
    models("pull", "org/name")
    rows = {row["name"]: row for row in json.loads(models("list", "--json").out)}
    assert rows["lite"]["state"] == "embedded"
    assert rows["lite"]["path"].endswith("lite.safetensors")
    small = rows["dav2-hypersim-small"]
    assert (small["state"], small["path"], small["scene"], small["max_depth"]) == (
        "not cached",
        None,
        "indoor",
        20,
    )
    here = rows["org/name"]
    assert (here["state"], here["size"], here["cached_revision"]) == ("cached", len(CONTENT), commit)


def test_show_one(models: Models) -> None:
    answer = models("show", "dav2-hypersim-base")
    lines = dict(
        line.split(maxsplit=1) for line in answer.out.splitlines() if not line.startswith(("max", "input"))
    )
    assert lines["licence"] == "not stated"
    assert lines["commercial"] == "-"
    assert lines["size"] == "390.0 MB"
    assert "max depth    20 m" in answer.out
    assert "input size   518 px" in answer.out
    assert json.loads(models("show", "zoedepth", "--json").out)["repo"] == "Intel/zoedepth-nyu-kitti"
    unknown = models("show", "nothing")
    assert unknown.code == 2
    assert "'nothing' is neither a file, nor a known name" in unknown.err
    assert unknown.out == ""


def test_pull_prints_the_path(models: Models, server: HubServer) -> None:
    first = server.add_repo("org/name", {OURS: CONTENT})
    server.add_repo("org/name", {OURS: CONTENT + b"2"})
    answer = models("pull", "org/name", "--revision", first)
    assert answer.code == 0
    assert Path(answer.out.strip()).read_bytes() == CONTENT
    again = models("pull", "org/name", "--revision", first, "--offline", "--json")
    assert json.loads(again.out) == {"name": "org/name", "path": answer.out.strip(), "revision": first}
    assert models("pull", "lite").out.strip() == str(resolve("lite").path)


def test_pull_that_fails(models: Models, server: HubServer) -> None:
    server.add_repo("org/name", {OURS: CONTENT}, gated=True)
    answer = models("pull", "org/name")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.count("\n") == 1
    assert answer.err.startswith("error: org/name is gated: accept its licence")
    missing = models("pull", "org/other", "--offline")
    assert missing.code == 1
    assert "org/other is not in the cache" in missing.err


def test_verify_compares_and_tells(models: Models, server: HubServer) -> None:
    server.add_repo("org/name", {OURS: CONTENT})
    models("pull", "org/name")
    answer = models("verify")
    assert answer.code == 0
    assert answer.err == "3 files, 0 wrong\n"
    assert [line.split()[0] for line in answer.out.splitlines()] == ["ok"] * 3
    path = resolve("org/name").path
    path.resolve().write_bytes(CONTENT[::-1])
    answer = models("verify", "-q")
    assert answer.code == 1
    assert answer.err == ""
    assert answer.out.splitlines()[2].startswith(f"WRONG    org/name: {path} has sha256 ")
    (result,) = json.loads(models("verify", "org/name", "--json").out)
    assert result["ok"] is False
    assert result["source"] == "first download"
    assert models("verify", "lite").code == 0
    assert models("verify", "zoedepth").code == 1


def test_verify_says_when_there_is_nothing_to_compare_with(models: Models, tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").write_bytes(b"x")
    answer = models("verify", tmp_path / "mine.safetensors")
    assert answer.code == 0
    assert answer.out.startswith("unknown  mine.safetensors: nothing to compare")
    assert models("verify", tmp_path).code == 2
