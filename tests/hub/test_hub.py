"""Models from names: the registry, and a real client against a Hub on loopback, in good times and bad."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hub_server import HubServer, Repo

from prv2cli.errors import CheckpointError, DiskFullError, OutputError, Prv2Error, UsageError
from prv2cli.hub.client import HubError, HubUnreachableError
from prv2cli.hub.registry import DEFAULT_COARSE, DEFAULT_REFINER, Entry, Scene
from prv2cli.hub.resolve import (
    OURS,
    ModelFile,
    auto_coarse,
    cached,
    check,
    registry,
    resolve,
    verify,
    weights_folder,
)

ROOT = Path(__file__).parents[2]
CONTENT = random.Random(3).randbytes(3_000_000)
OTHER = random.Random(4).randbytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FOLDER = {"config.json": b"{}", "preprocessor_config.json": b"{ }", "model.safetensors": CONTENT[:70_000]}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[HubServer]:
    """A Hub that the client asks, with an empty cache."""
    with HubServer() as started:
        started.use(monkeypatch, cache)
        yield started


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What the library has said to people, warnings and worse."""
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    level = logging.getLogger("prv2cli").level
    logging.getLogger("prv2cli").setLevel(logging.WARNING)
    logging.getLogger("prv2cli").addHandler(handler)
    yield messages
    logging.getLogger("prv2cli").removeHandler(handler)
    logging.getLogger("prv2cli").setLevel(level)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch, server: HubServer) -> dict[str, Entry]:
    """Two metric networks for anyone, one that is not, all published on the server; and the embedded ones."""
    entries = {name: entry for name, entry in registry().items() if entry.embedded}
    for name, scene, free in (("in", "indoor", True), ("out", "outdoor", True), ("large", "indoor", False)):
        content = name.encode() * 50_000
        repo = f"them/{name}"
        entries[name] = Entry(
            name=name,
            kind="coarse",
            loader="dav2",
            repo=repo,
            file="net.pth",
            revision=server.add_repo(repo, {"net.pth": content}),
            sha256=hashlib.sha256(content).hexdigest(),
            licence="Apache-2.0" if free else "CC-BY-NC-4.0",
            commercial=free,
            domain="tests",
            scene=scene,
        )
    monkeypatch.setattr("prv2cli.hub.resolve._entries", lambda: entries)
    return entries


def left_in(cache: Path) -> list[str]:
    """The files with content in a cache, partial ones too."""
    return sorted(path.name for path in cache.glob("models--*/blobs/*"))


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


# --- the registry -----------------------------------------------------------------------------------------


def test_every_registered_model_is_described_in_full() -> None:
    entries = registry()
    assert {DEFAULT_REFINER, DEFAULT_COARSE, "zoedepth", "depth-pro"} <= set(entries)
    for name, entry in entries.items():
        assert entry.name == name and entry.licence and entry.domain
        assert (entry.repo is None) == entry.embedded
        assert entry.file is not None or entry.loader == "transformers"
        if entry.revision is not None:
            assert len(entry.revision) == 40 and int(entry.revision, 16)
        if entry.loader != "transformers":
            assert entry.sha256 is not None and len(entry.sha256) == 64 and int(entry.sha256, 16)
    dav2 = [entry for entry in entries.values() if entry.loader == "dav2"]
    assert len({(entry.repo, entry.file, entry.revision, entry.sha256) for entry in dav2}) == 6
    for entry in dav2:
        indoor = "Hypersim" in str(entry.repo)
        assert (entry.scene, entry.max_depth) == (("indoor", 20.0) if indoor else ("outdoor", 80.0))
        assert entry.commercial == str(entry.repo).endswith("Small")
        assert entry.licence == ("Apache-2.0" if entry.commercial else "CC-BY-NC-4.0")
        assert entry.revision is not None and entry.size is not None


def test_embedded_models_are_the_registered_files() -> None:
    for name, entry in registry().items():
        if entry.embedded:
            path = resolve(name).path
            assert path.parent == weights_folder()
            content = path.read_bytes()
            assert (entry.sha256, entry.size) == (hashlib.sha256(content).hexdigest(), len(content))


def test_names_that_are_checked_without_a_network(server: HubServer, tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").touch()
    for name in ("lite", "dav2-vkitti-large", "org/name", "hf:org/name", tmp_path / "mine.safetensors"):
        check(name)
    for name in (
        "light",
        "org/name/more",
        "weights/missing.safetensors",
        "../up",
        "hf:name",
        f"org/{'a' * 300}",
        tmp_path / "no",
    ):
        with pytest.raises(UsageError, match=r"neither a file, nor a known name.*dav2-hypersim-small"):
            check(name)
    assert server.requests == []


def test_a_path_is_a_path(server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("org/name").mkdir(parents=True)
    shutil.copy(resolve("lite").path, "lite")
    assert resolve("org/name") == ModelFile(Path("org/name"), "name")
    assert resolve("lite") == ModelFile(Path("lite"), "lite")
    with pytest.raises(UsageError, match="--revision main: lite"):
        resolve("lite", revision="main")
    assert server.requests == []


def test_importing_needs_neither_torch_nor_the_client() -> None:
    code = "import sys, prv2cli.hub.resolve; print({'torch', 'huggingface_hub'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "set()\n", done.stderr


# --- downloads --------------------------------------------------------------------------------------------


def test_the_second_time_nothing_is_asked(server: HubServer, cache: Path) -> None:
    commit = server.add_repo("org/name", {OURS: CONTENT, "README.md": b"-", "model.bin": b"-"})
    assert cached("org/name") is None
    first = resolve("org/name")
    assert first == ModelFile(first.path, "org/name", None, commit)
    assert first.path.read_bytes() == CONTENT and cache in first.path.parents
    assert len(server.downloads()) == 2  # the redirect, the content
    server.requests.clear()
    assert resolve("org/name") == resolve("org/name", revision=commit) == cached("org/name") == first
    assert server.requests == []


def test_other_programs_find_what_was_downloaded(server: HubServer, cache: Path) -> None:
    from huggingface_hub import hf_hub_download, scan_cache_dir

    server.add_repo("org/name", {OURS: CONTENT})
    path = resolve("org/name").path
    assert Path(hf_hub_download("org/name", OURS, cache_dir=cache, local_files_only=True)) == path
    found = scan_cache_dir(cache)
    assert [(repo.repo_id, repo.size_on_disk) for repo in found.repos] == [("org/name", len(CONTENT))]
    assert found.warnings == []


def test_what_other_programs_downloaded_is_used(server: HubServer, cache: Path) -> None:
    from huggingface_hub import hf_hub_download

    server.add_repo("org/name", {OURS: CONTENT})
    path = hf_hub_download("org/name", OURS, cache_dir=cache, endpoint=server.url)
    server.requests.clear()
    assert resolve("org/name").path == Path(path)
    assert server.requests == []


def test_a_connection_that_drops_is_taken_up_where_it_broke(server: HubServer) -> None:
    server.add_repo("org/name", {OURS: CONTENT})
    server.faults.drop_after.extend([1_000_000, 700_000])
    assert resolve("org/name").path.read_bytes() == CONTENT
    ranges = [r.range for r in server.downloads() if r.origin == "store"]
    assert ranges[0] is None
    starts = [int(str(r).removeprefix("bytes=").removesuffix("-")) for r in ranges[1:]]
    assert len(starts) == 2 and 900_000 < starts[0] <= 1_000_000 < starts[1] <= 1_700_000


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
    assert outputs[0][0] == outputs[1][0] and Path(outputs[0][0].strip()).read_bytes() == CONTENT
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


# --- bytes that are not what they should be ---------------------------------------------------------------


def test_wrong_bytes_are_refused_and_not_kept(server: HubServer, cache: Path) -> None:
    server.add_repo("org/name", {OURS: CONTENT})
    server.faults.corrupt = True
    with pytest.raises(
        CheckpointError, match=r"org/name/prv2.safetensors at .*sha256 .* instead of .*nothing was kept"
    ):
        resolve("org/name")
    assert left_in(cache) == [] and cached("org/name") is None
    server.faults.corrupt = False
    assert resolve("org/name").path.read_bytes() == CONTENT


def test_wrong_bytes_of_a_small_file_are_refused(server: HubServer, cache: Path) -> None:
    """Files in git proper come with git's hash instead of a sha256."""
    server.add_repo("org/name", FOLDER)
    server.faults.corrupt = True
    with pytest.raises(CheckpointError, match=r"config\.json at .*other content than the Hub says"):
        resolve("org/name")
    assert left_in(cache) == []


def test_a_registered_file_that_was_replaced_is_not_even_fetched(
    server: HubServer, registered: dict[str, Entry], cache: Path
) -> None:
    server.add_repo("them/in", {"net.pth": OTHER}, commit=registered["in"].revision)
    with pytest.raises(CheckpointError, match=r"them/in/net\.pth .* instead of "):
        resolve("in")
    assert server.downloads() == [] and left_in(cache) == []


def test_a_commit_that_changes_its_bytes_is_refused(server: HubServer, cache: Path) -> None:
    """What was downloaded first is remembered, though nobody registered a sha256."""
    commit = server.add_repo("org/name", {OURS: CONTENT})
    path = resolve("org/name").path
    path.resolve().unlink()
    server.add_repo("org/name", {OURS: OTHER}, commit=commit)
    with pytest.raises(CheckpointError, match="instead of"):
        resolve("org/name")
    assert left_in(cache) == []


def test_a_branch_that_moves_is_followed_only_on_demand(server: HubServer) -> None:
    first = server.add_repo("org/name", {OURS: CONTENT})
    assert resolve("org/name").revision == first
    second = server.add_repo("org/name", {OURS: OTHER})
    assert resolve("org/name").revision == first
    assert resolve("org/name", revision="main").revision == second
    assert resolve("org/name").revision == second
    assert resolve("org/name", revision=first).path.read_bytes() == CONTENT
    assert resolve("org/name").revision == second


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
    assert len(said) == 1 and said[0].endswith("downloading it again")


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


# --- repositories -----------------------------------------------------------------------------------------


def test_a_transformers_repository_is_a_folder_without_pickles_or_code(
    server: HubServer, cache: Path
) -> None:
    more = {
        "pytorch_model.bin": b"x",
        "modeling.py": b"x",
        "model.fp16.safetensors": b"x",
        "onnx/model.safetensors": b"x",
        ".gitattributes": b"x",
        "training arguments.pt": b"x",
    }
    commit = server.add_repo("org/name", FOLDER | more)
    found = resolve("org/name")
    assert found.path.is_dir() and found.revision == commit
    assert {path.name: path.read_bytes() for path in found.path.iterdir()} == FOLDER
    server.requests.clear()
    assert resolve("org/name") == found and server.requests == []


def test_ours_goes_before_the_folder_unless_the_name_says_otherwise(server: HubServer) -> None:
    server.add_repo("org/name", FOLDER | {OURS: CONTENT})
    assert resolve("org/name").path.name == OURS
    folder = resolve("hf:org/name")
    assert folder.name == "hf:org/name" and {p.name for p in folder.path.iterdir()} == {*FOLDER, OURS}
    assert resolve("org/name").path.name == OURS


def test_an_interrupted_folder_is_completed(server: HubServer) -> None:
    server.add_repo("org/name", FOLDER)
    server.faults.drop_after.extend([len(FOLDER["config.json"]), *[0] * 20])
    with pytest.raises(HubUnreachableError):
        resolve("org/name")
    assert cached("org/name") is None
    server.faults.drop_after.clear()
    assert {path.name for path in resolve("org/name").path.iterdir()} == set(FOLDER)


def test_a_repository_of_pickles_is_refused(server: HubServer) -> None:
    server.add_repo("org/name", {"config.json": b"{}", "pytorch_model.bin": b"x"})
    with pytest.raises(
        HubError, match=r"org/name holds no prv2.safetensors, nor config.json .*can hold code"
    ):
        resolve("org/name")
    assert server.downloads() == []


@pytest.mark.parametrize("name", ["../up.safetensors", "/etc/x", "a/../../b", "a\\b", "C:x", "a//b", "x\n"])
def test_names_that_lead_out_of_the_cache_are_refused(server: HubServer, cache: Path, name: str) -> None:
    server.add_repo("org/name", FOLDER | {name: b"x"})
    with pytest.raises(CheckpointError, match="org/name: refused a file called"):
        resolve("org/name")
    assert server.downloads() == [] and left_in(cache) == []


def test_a_hash_that_leads_out_of_the_cache_is_refused(
    server: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.add_repo("org/name", FOLDER)
    monkeypatch.setattr("hub_server.git_hash", lambda content: "../../../up")
    with pytest.raises(CheckpointError, match=r"which is no safe name"):
        resolve("org/name")
    assert server.downloads() == [] and not list(cache.parent.glob("up*"))


def test_a_registered_repository_is_the_registered_model(registered: dict[str, Entry]) -> None:
    assert resolve("them/out").entry == registered["out"]
    assert resolve("them/out").name == "out"


def test_non_commercial_licences_are_shown_before_the_download(
    server: HubServer,
    registered: dict[str, Entry],
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolve("in")
    assert said == []
    asked: list[int] = []
    for handler in logging.getLogger("prv2cli").handlers:
        monkeypatch.setattr(handler, "filter", lambda record: asked.append(len(server.downloads())) or True)
    before = len(server.downloads())
    resolve("large")
    resolve("large")
    assert said == [f"large: licence CC-BY-NC-4.0, no commercial use; see {server.url}/them/large"]
    assert set(asked) == {before}


# --- refusals and failures --------------------------------------------------------------------------------


def test_what_is_not_there(server: HubServer, registered: dict[str, Entry]) -> None:
    with pytest.raises(
        HubError, match=rf"no repository org/name at {server.url}; if it is private, .*hf auth login"
    ):
        resolve("org/name")
    server.add_repo("org/name", {OURS: CONTENT})
    with pytest.raises(HubError, match=r"org/name has no revision 'v9'; see .*/commits/main"):
        resolve("org/name", revision="v9")
    server.repos["them/in"] = Repo({str(registered["in"].revision): {"x": b""}}, {})
    with pytest.raises(HubError, match=r"them/in holds no file net\.pth at revision"):
        resolve("in")


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
    assert len(said) == 1 and said[0].endswith(f"; using the cached org/here ({commit[:12]})")


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_offline_never_asks(server: HubServer, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server.add_repo("org/here", {OURS: CONTENT})
    server.add_repo("org/folder", FOLDER)
    here, folder = resolve("org/here"), resolve("org/folder")
    server.requests.clear()
    if how == "environment":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    offline = how == "argument"
    assert resolve("org/here", offline=offline) == here
    assert resolve("org/here", revision="main", offline=offline) == here
    assert resolve("org/folder", offline=offline) == folder
    assert resolve("lite", offline=offline).path.is_file()
    for missing in ("org/name", "dav2-hypersim-small"):
        with pytest.raises(HubError, match=rf"{missing} is not in the cache .*without --offline"):
            resolve(missing, offline=offline)
    assert server.requests == []


def test_something_that_is_no_hub(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.add_repo("org/name", {OURS: CONTENT})
    monkeypatch.setenv("HF_ENDPOINT", server.store_url)
    with pytest.raises(HubError, match=rf"{server.store_url}"):
        resolve("org/name")


# --- a cache that cannot take it --------------------------------------------------------------------------


def test_a_cache_that_cannot_be_made(server: HubServer, cache: Path) -> None:
    server.add_repo("org/name", {OURS: CONTENT})
    cache.write_bytes(b"a file")
    with pytest.raises(OutputError, match=rf"the model cache {cache}: .*HF_HUB_CACHE"):
        resolve("org/name")


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


# --- auto -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scene", "name"), [(None, "in"), ("indoor", "in"), ("outdoor", "out")])
def test_auto_takes_the_network_for_the_scene(
    registered: dict[str, Entry], scene: Scene | None, name: str
) -> None:
    assert auto_coarse(scene).entry == registered[name]
    assert auto_coarse(scene, offline=True).entry == registered[name]


@pytest.mark.parametrize("how", ["silent", "no name server", "refused", "offline", "gated", "full"])
def test_auto_falls_back_to_the_embedded_network_with_one_warning(
    server: HubServer,
    registered: dict[str, Entry],
    how: str,
    cache: Path,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("prv2cli.hub.resolve.AUTO_SECONDS", 0.4)
    if how == "silent":
        server.faults.delay = 3.0
    elif how == "no name server":  # the client's own limit on waiting does not cover this
        monkeypatch.setattr("socket.getaddrinfo", lambda *arguments, **options: time.sleep(3.0) or [])
    elif how == "refused":
        server.stop()
    elif how == "gated":
        server.repos["them/in"].gated = True
    elif how == "full":
        cache.touch()
    start = time.monotonic()
    found = auto_coarse(offline=how == "offline")
    assert time.monotonic() - start < 1.5
    assert (found.name, found.path) == ("lite", weights_folder() / "lite.safetensors")
    (message,) = said
    assert message.startswith("in is not at hand: ") and message.endswith("Using lite instead")


def test_auto_prefers_what_is_cached_to_the_embedded_network(
    server: HubServer,
    registered: dict[str, Entry],
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolve("out")
    server.stop()
    assert auto_coarse().name == "out"
    assert auto_coarse("indoor").name == "lite"
    assert [text.rpartition(". ")[2] for text in said] == [
        "Using out instead",
        "Using lite instead",
    ]


def test_auto_does_not_go_on_after_wrong_bytes(server: HubServer, registered: dict[str, Entry]) -> None:
    server.faults.corrupt = True
    with pytest.raises(CheckpointError, match=r"them/in/net\.pth"):
        auto_coarse()


def test_a_named_model_never_falls_back(server: HubServer, registered: dict[str, Entry]) -> None:
    server.stop()
    with pytest.raises(Prv2Error, match="cannot reach"):
        resolve("in")
