"""The Hub's cache: bytes that are not what they should be, names that lead out, a disk that cannot take it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from hub_models import CONTENT, FOLDER, OTHER, SHA256, left_in
from hub_server import HubServer

from prv2cli.cli import app
from prv2cli.errors import CheckpointError, DiskFullError, OutputError
from prv2cli.hub.cache import CacheUnreadableError
from prv2cli.hub.client import HubError
from prv2cli.hub.registry import Entry
from prv2cli.hub.resolve import OURS, cached, resolve, verify


def test_wrong_bytes_are_refused_and_not_kept(server: HubServer, cache: Path) -> None:
    server.add_repo("org/name", {OURS: CONTENT})
    server.faults.corrupt = True
    with pytest.raises(
        CheckpointError, match=r"org/name/prv2.safetensors at .*sha256 .* instead of .*nothing was kept"
    ):
        resolve("org/name")
    assert left_in(cache) == []
    assert cached("org/name") is None
    server.faults.corrupt = False
    assert resolve("org/name").path.read_bytes() == CONTENT


def test_wrong_bytes_of_a_small_file_are_refused(server: HubServer, cache: Path) -> None:
    """Files in git proper come with git's hash instead of a sha256."""
    server.add_repo("org/name", FOLDER)
    server.faults.corrupt = True
    with pytest.raises(CheckpointError, match=r"config\.json at .*other content than the Hub says"):
        resolve("org/name")
    assert left_in(cache) == []


def test_a_commit_that_changes_its_bytes_is_refused(server: HubServer, cache: Path) -> None:
    """What was downloaded first is remembered, though nobody registered a sha256."""
    commit = server.add_repo("org/name", {OURS: CONTENT})
    path = resolve("org/name").path
    path.resolve().unlink()
    server.add_repo("org/name", {OURS: OTHER}, commit=commit)
    with pytest.raises(CheckpointError, match="instead of"):
        resolve("org/name")
    assert left_in(cache) == []


def test_a_cached_file_that_changed_is_noticed(
    server: HubServer, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.add_repo("org/name", {OURS: CONTENT})
    path = resolve("org/name").path
    path.resolve().write_bytes(OTHER)
    assert [result.ok for result in verify("org/name")] == [False]
    with pytest.raises(CheckpointError, match="damaged, its sha256 has changed; prv2 models pull org/name"):
        resolve("org/name", offline=True)
    assert resolve("org/name").path.read_bytes() == CONTENT
    assert len(said) == 1
    assert said[0].endswith("downloading it again")


@pytest.mark.parametrize(
    "damaged",
    [
        "{",
        '{"revisions": {"main": "../../elsewhere"}}',
        json.dumps({"revisions": {"main": "b" * 300}}),
        '{"folders": {"..": ["model.safetensors"]}}',
        '{"files": {"a": {"sha256": "b"}}}',
    ],
)
def test_a_damaged_record_is_an_error_that_names_it(server: HubServer, cache: Path, damaged: str) -> None:
    server.add_repo("org/name", {OURS: CONTENT})
    resolve("org/name")
    record = cache / "models--org--name" / "prv2.json"
    record.write_text(damaged)
    with pytest.raises(CheckpointError, match=r"prv2\.json: the record .* is damaged; delete it"):
        resolve("org/name")
    record.unlink()
    assert resolve("org/name").path.read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["../../../etc/passwd", "a" * 300, "a/" * 300 + "b", "\\a"])
def test_a_record_of_files_that_cannot_be(server: HubServer, cache: Path, name: str) -> None:
    commit = server.add_repo("org/name", FOLDER)
    resolve("org/name")
    record = cache / "models--org--name" / "prv2.json"
    record.write_text(json.dumps({"revisions": {"main": commit}, "folders": {commit: [name]}}))
    with pytest.raises(CheckpointError, match="org/name: refused a file called") as raised:
        resolve("org/name", offline=True)
    assert len(str(raised.value)) < 400


def test_verify_compares_all_that_is_here(server: HubServer, registered: dict[str, Entry]) -> None:
    server.add_repo("org/name", FOLDER)
    resolve("in")
    resolve("org/name")
    results = verify()
    assert all(result.ok for result in results)
    assert [(r.name, r.path.name, r.source) for r in results] == [
        ("refiner-s", "refiner-s.safetensors", "registry"),
        ("lite", "lite.safetensors", "registry"),
        ("in", "net.pth", "registry"),
        ("org/name", "config.json", "first download"),
        ("org/name", "preprocessor_config.json", "first download"),
        ("org/name", "model.safetensors", "first download"),
    ]
    with pytest.raises(HubError, match="out is not in the cache; prv2 models pull out"):
        verify("out")


@pytest.mark.parametrize("name", ["../up.safetensors", "/etc/x", "a/../../b", "a\\b", "C:x", "a//b", "x\n"])
def test_names_that_lead_out_of_the_cache_are_refused(server: HubServer, cache: Path, name: str) -> None:
    server.add_repo("org/name", FOLDER | {name: b"x"})
    with pytest.raises(CheckpointError, match="org/name: refused a file called"):
        resolve("org/name")
    assert server.downloads() == []
    assert left_in(cache) == []


def test_a_hash_that_leads_out_of_the_cache_is_refused(
    server: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.add_repo("org/name", FOLDER)
    monkeypatch.setattr("hub_server.git_hash", lambda content: "../../../up")
    with pytest.raises(CheckpointError, match=r"which is no safe name"):
        resolve("org/name")
    assert server.downloads() == []
    assert not list(cache.parent.glob("up*"))


def test_a_cache_that_cannot_be_made(server: HubServer, cache: Path) -> None:
    server.add_repo("org/name", {OURS: CONTENT})
    cache.write_bytes(b"a file")
    with pytest.raises(OutputError, match=rf"the model cache {cache}: .*HF_HUB_CACHE"):
        resolve("org/name")


@pytest.mark.parametrize("method", ["is_file", "read_bytes", "glob"])
def test_a_cache_that_may_not_be_looked_into(
    server: HubServer,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    method: str,
) -> None:
    server.add_repo("org/name", {OURS: CONTENT})
    resolve("org/name")

    def refuse(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, method, refuse)
    if method != "glob":
        with pytest.raises(CacheUnreadableError, match=rf"{cache} cannot be read .*HF_HUB_CACHE"):
            resolve("org/name")
    assert app._run(["models", "list"], debug=False) == 0
    told = capsys.readouterr()
    assert "refiner-s" in told.out
    assert "bug" not in told.err
    assert method == "read_bytes" or told.err.startswith("warning: the model cache")


def test_a_home_that_is_not_known(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", "~nobody-of-this-name/cache")
    assert app._run(["models", "list"], debug=False) == 0
    told = capsys.readouterr()
    assert "refiner-s" in told.out
    assert told.err.startswith("warning: ")
    assert "HF_HUB_CACHE" in told.err


def test_a_client_that_cannot_read_its_own_files(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.add_repo("org/name", {OURS: CONTENT})
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", f"{__file__}/token")
    with pytest.raises(HubError, match="HF_HOME says where"):
        resolve("org/name")


def test_a_read_only_cache_is_used_as_it_is(server: HubServer, cache: Path) -> None:
    """Even root cannot write below a file: so the places where we would write are files."""
    server.add_repo("org/name", {OURS: CONTENT})
    found = resolve("org/name")
    (cache / "models--org--name" / "prv2.json").unlink()
    shutil.rmtree(cache / ".locks")
    (cache / ".locks").touch()
    assert resolve("org/name", offline=True) == found
    server.add_repo("org/other", {OURS: CONTENT})
    with pytest.raises(OutputError, match="HF_HUB_CACHE"):
        resolve("org/other")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_no_space_left_while_writing(server: HubServer, cache: Path) -> None:
    server.add_repo("org/name", {OURS: CONTENT})
    blobs = cache / "models--org--name" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{SHA256}.prv2.incomplete").symlink_to("/dev/full")
    with pytest.raises(DiskFullError, match=rf"the model cache {cache}: no space left .*HF_HUB_CACHE"):
        resolve("org/name")
    assert cached("org/name") is None


def test_too_little_space_is_said_before_the_download(
    server: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.add_repo("org/name", {OURS: CONTENT})
    monkeypatch.setattr("prv2cli.hub.client.shutil.disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    with pytest.raises(DiskFullError, match=r"prv2.safetensors needs 3\.0 MB and .* has 1\.0 MB left"):
        resolve("org/name")
    assert server.downloads() == []
