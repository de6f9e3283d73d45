"""From a name to a file: registered models, paths, repositories, offline."""

from __future__ import annotations

import hashlib
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hub_models import CONTENT, FOLDER, OTHER, ROOT, left_in
from hub_server import HubServer, Repo

from prv2cli.errors import CheckpointError, UsageError
from prv2cli.hub.client import HubError, HubUnreachableError
from prv2cli.hub.registry import DEFAULT_COARSE, DEFAULT_REFINER, Entry
from prv2cli.hub.resolve import OURS, ModelFile, cached, check, path_of, registry, resolve, weights_folder


def test_every_registered_model_is_described_in_full() -> None:
    entries = registry()
    assert {DEFAULT_REFINER, DEFAULT_COARSE, "zoedepth", "depth-pro"} <= set(entries)
    for name, entry in entries.items():
        assert entry.name == name
        assert entry.licence
        assert entry.domain
        assert (entry.repo is None) == entry.embedded
        assert entry.file is not None or entry.loader == "transformers"
        if entry.revision is not None:
            assert len(entry.revision) == 40
            assert int(entry.revision, 16)
        if entry.loader != "transformers":
            assert entry.sha256 is not None
            assert len(entry.sha256) == 64
            assert int(entry.sha256, 16)
    dav2 = [entry for entry in entries.values() if entry.loader == "dav2"]
    assert len({(entry.repo, entry.file, entry.revision, entry.sha256) for entry in dav2}) == 6
    for entry in dav2:
        indoor = "Hypersim" in str(entry.repo)
        assert (entry.scene, entry.max_depth) == (("indoor", 20.0) if indoor else ("outdoor", 80.0))
        assert (entry.licence, entry.commercial) == ("not stated", None)  # as on their cards
        assert entry.revision is not None
        assert entry.size is not None


def test_auto_takes_the_smallest_of_the_best_that_anyone_may_use() -> None:
    suitable = [entry for entry in registry().values() if entry.suits_auto(None)]
    assert suitable[0].name == "moge-2-vits-normal"
    assert all(entry.commercial and entry.metric and entry.loader == "moge2" for entry in suitable)
    assert suitable[0].size == min(entry.size or 0 for entry in suitable)


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


def test_a_folder_called_like_a_model_is_not_that_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("lite", "own"):
        Path(name).mkdir()
    assert resolve("lite").path.parent == weights_folder()
    assert [path_of(name) for name in ("lite", "own", "none", "a\0b")] == [None, Path("own"), None, None]


def test_importing_needs_neither_torch_nor_the_client() -> None:
    code = "import sys, prv2cli.hub.resolve; print({'torch', 'huggingface_hub'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "set()\n", done.stderr


def test_the_second_time_nothing_is_asked(server: HubServer, cache: Path) -> None:
    commit = server.add_repo("org/name", {OURS: CONTENT, "README.md": b"-", "model.bin": b"-"})
    assert cached("org/name") is None
    first = resolve("org/name")
    assert first == ModelFile(first.path, "org/name", None, commit)
    assert first.path.read_bytes() == CONTENT
    assert cache in first.path.parents
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


def test_a_registered_file_that_was_replaced_is_not_even_fetched(
    server: HubServer, registered: dict[str, Entry], cache: Path
) -> None:
    server.add_repo("them/in", {"net.pth": OTHER}, commit=registered["in"].revision)
    with pytest.raises(CheckpointError, match=r"them/in/net\.pth .* instead of "):
        resolve("in")
    assert server.downloads() == []
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


def test_a_branch_that_another_program_moved_is_not_set_back(server: HubServer, cache: Path) -> None:
    first = server.add_repo("org/name", {OURS: CONTENT})
    found = resolve("org/name")
    branch = cache / "models--org--name/refs/main"
    assert branch.read_text() == first
    branch.write_text("b" * 40)  # as hf download does when the branch has moved
    found.path.unlink()
    assert resolve("org/name").revision == first
    assert branch.read_text() == "b" * 40


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
    assert found.path.is_dir()
    assert found.revision == commit
    assert {path.name: path.read_bytes() for path in found.path.iterdir()} == FOLDER
    server.requests.clear()
    assert resolve("org/name") == found
    assert server.requests == []


def test_ours_goes_before_the_folder_unless_the_name_says_otherwise(server: HubServer) -> None:
    server.add_repo("org/name", FOLDER | {OURS: CONTENT})
    assert resolve("org/name").path.name == OURS
    folder = resolve("hf:org/name")
    assert folder.name == "hf:org/name"
    assert {p.name for p in folder.path.iterdir()} == {*FOLDER, OURS}
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

    def count(record: logging.LogRecord) -> bool:
        asked.append(len(server.downloads()))
        return True

    for handler in logging.getLogger("prv2cli").handlers:
        monkeypatch.setattr(handler, "filter", count)
    before = len(server.downloads())
    resolve("large")
    resolve("large")
    assert said == [f"large: licence CC-BY-NC-4.0, no commercial use; see {server.url}/them/large"]
    assert set(asked) == {before}
    resolve("silent")
    assert said[1:] == [f"silent: licence not stated; see {server.url}/them/silent"]


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
