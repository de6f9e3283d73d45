"""Downloads from the Hub: interrupted, by two at a time, refused, from something that is no Hub."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hub_models import CONTENT, ROOT, SHA256, left_in
from hub_server import HubServer

from prv2cli.hub.client import HubError, HubUnreachableError
from prv2cli.hub.registry import Entry
from prv2cli.hub.resolve import OURS, resolve


def child(code: str, cache: Path, server: HubServer) -> subprocess.Popen[str]:
    """A process of its own that downloads; what it prints are paths."""
    settings = {"HF_ENDPOINT": server.url, "HF_HUB_CACHE": str(cache), "PYTHONPATH": str(ROOT)}
    small = "import huggingface_hub.constants as c; c.DOWNLOAD_CHUNK_SIZE = 1 << 16\n"
    return subprocess.Popen(
        [sys.executable, "-c", f"{small}from prv2cli.hub.resolve import resolve\n{code}"],
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_connection_that_drops_is_taken_up_where_it_broke(server: HubServer) -> None:
    server.add_repo("org/name", {OURS: CONTENT})
    server.faults.drop_after.extend([1_000_000, 700_000])
    assert resolve("org/name").path.read_bytes() == CONTENT
    ranges = [r.range for r in server.downloads() if r.origin == "store"]
    assert ranges[0] is None
    starts = [int(str(r).removeprefix("bytes=").removesuffix("-")) for r in ranges[1:]]
    assert len(starts) == 2
    assert 900_000 < starts[0] <= 1_000_000 < starts[1] <= 1_700_000


def test_the_next_run_goes_on_after_too_many_drops(server: HubServer, cache: Path) -> None:
    server.add_repo("org/name", {OURS: CONTENT})
    server.faults.drop_after.extend([1_000_000, *[0] * 20])
    with pytest.raises(HubUnreachableError, match=r"broke off after (0\.9|1\.0) MB .*run it again"):
        resolve("org/name")
    (partial,) = left_in(cache)
    assert partial == f"{SHA256}.prv2.incomplete"
    server.faults.drop_after.clear()
    server.requests.clear()
    assert resolve("org/name").path.read_bytes() == CONTENT
    assert [str(r.range)[:7] for r in server.downloads() if r.origin == "store"] == ["bytes=9"]
    assert left_in(cache) == [SHA256]


def test_the_next_run_goes_on_after_the_process_was_killed(server: HubServer, cache: Path) -> None:
    server.add_repo("org/name", {OURS: CONTENT})
    server.faults.stall_after = 1_500_000
    process = child("resolve('org/name')", cache, server)
    assert server.faults.stalled.wait(30)
    partial = cache / "models--org--name" / "blobs" / f"{SHA256}.prv2.incomplete"
    deadline = time.monotonic() + 10
    while not (partial.exists() and partial.stat().st_size > 1_000_000) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    server.faults.stall_after = None
    server.faults.resume.set()
    server.requests.clear()
    assert resolve("org/name").path.read_bytes() == CONTENT
    (again,) = [r.range for r in server.downloads() if r.origin == "store"]
    assert 1_000_000 < int(str(again).removeprefix("bytes=").removesuffix("-")) < 1_600_000
    assert left_in(cache) == [SHA256]


def test_a_server_without_ranges_sends_it_all_again(server: HubServer) -> None:
    server.add_repo("org/name", {OURS: CONTENT})
    server.faults.no_ranges = True
    server.faults.drop_after.append(1_000_000)
    assert resolve("org/name").path.read_bytes() == CONTENT


def test_a_damaged_part_from_before_is_thrown_away(server: HubServer, cache: Path) -> None:
    server.add_repo("org/name", {OURS: CONTENT})
    blobs = cache / "models--org--name" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{SHA256}.prv2.incomplete").write_bytes(b"\0" * 1_000_000)
    assert resolve("org/name").path.read_bytes() == CONTENT
    assert [r.range for r in server.downloads() if r.origin == "store"] == ["bytes=1000000-", None]


def test_two_processes_fetch_a_file_once(server: HubServer, cache: Path) -> None:
    server.add_repo("org/name", {OURS: CONTENT})
    server.faults.stall_after = 500_000
    processes = [child("print(resolve('org/name').path)", cache, server) for _ in range(2)]
    deadline = time.monotonic() + 30
    while sum(r.method == "HEAD" for r in server.requests) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.faults.stalled.wait(10)
    server.faults.stall_after = None
    server.faults.resume.set()
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0]
    assert Path(outputs[0][0].strip()).read_bytes() == CONTENT
    assert len([r for r in server.downloads() if r.origin == "store"]) == 1


@pytest.mark.parametrize("quiet", [False, True])
def test_progress_is_shown_on_stderr_unless_quiet(
    server: HubServer,
    quiet: bool,
    said: list[str],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TQDM_POSITION", "-1")  # tells the client that stderr is to be taken for a terminal
    logging.getLogger("prv2cli").setLevel(logging.ERROR if quiet else logging.WARNING)
    server.add_repo("org/name", {OURS: CONTENT})
    resolve("org/name")
    shown = capfd.readouterr()
    assert shown.out == ""
    assert ("prv2.safetensors: 100%" in shown.err) is not quiet


@pytest.mark.parametrize("token", [None, "wrong"])
@pytest.mark.parametrize("model", ["org/name", "in"])
def test_a_gated_repository_says_how_to_get_in(
    server: HubServer,
    registered: dict[str, Entry],
    token: str | None,
    model: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.add_repo("org/name", {OURS: CONTENT}, gated=True, token="right")
    server.repos["them/in"].gated, server.repos["them/in"].token = True, "right"
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(
        HubError, match=rf"is gated: accept its licence at {server.url}/\w+/\w+.*`hf auth login` .*HF_TOKEN"
    ):
        resolve(model)
    monkeypatch.setenv("HF_TOKEN", "right")
    assert resolve(model).path.is_file()
    assert {r.token for r in server.downloads() if r.origin == "store"} == {None}  # it stays with the Hub


def test_a_private_repository_needs_the_token(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.add_repo("org/name", {OURS: CONTENT}, private=True, token="right")
    with pytest.raises(HubError, match=r"no repository org/name .*HF_TOKEN"):
        resolve("org/name")
    monkeypatch.setenv("HF_TOKEN", "right")
    assert resolve("org/name").path.read_bytes() == CONTENT


@pytest.mark.parametrize("how", ["refused", "503", "silent"])
def test_a_hub_that_is_down(
    server: HubServer,
    how: str,
    monkeypatch: pytest.MonkeyPatch,
    said: list[str],
) -> None:
    commit = server.add_repo("org/here", {OURS: CONTENT})
    here = resolve("org/here")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT", 0.5)
    if how == "refused":
        server.stop()
    elif how == "503":
        server.faults.status = 503
    else:
        server.faults.delay = 3.0
    start = time.monotonic()
    with pytest.raises(HubUnreachableError, match=rf"{server.url} "):
        resolve("org/name")
    assert resolve("org/here") == here
    assert said == []
    assert resolve("org/here", revision="main") == here
    assert time.monotonic() - start < 2.5
    assert len(said) == 1
    assert said[0].endswith(f"; using the cached org/here ({commit[:12]})")


def test_something_that_is_no_hub(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.add_repo("org/name", {OURS: CONTENT})
    monkeypatch.setenv("HF_ENDPOINT", server.store_url)
    with pytest.raises(HubError, match=rf"{server.store_url}"):
        resolve("org/name")
