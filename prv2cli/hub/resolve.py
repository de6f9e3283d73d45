"""From a model's name to a file on this machine: registered names, paths, Hub repositories. No torch.

    resolve("lite")        the file shipped with the package
    resolve("dav2-...")    a registered model: from the cache, else downloaded, checked against its sha256
    resolve("org/name")    that repository's prv2.safetensors; without one, its transformers folder
    resolve("hf:org/name") its transformers folder
    resolve("some/path")   whatever is there

A repository without a registered commit stays at the commit that it was first downloaded at, and its bytes at what
they were then (cache.py says how); an explicit revision asks anew where a branch stands. What lies in the cache
is used without a word to the Hub. HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE are obeyed.
"""

from __future__ import annotations

import functools
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prv2cli.choices import Scene
from prv2cli.errors import CheckpointError, OutputError, UsageError
from prv2cli.files.hashing import hash_file
from prv2cli.files.text import first_line
from prv2cli.hub.cache import COMMIT, CacheUnreadableError, RepoCache, cached_repos
from prv2cli.hub.client import (
    HubError,
    HubUnreachableError,
    describe,
    download,
    endpoint,
    list_files,
    timeout,
)
from prv2cli.hub.library import constants
from prv2cli.hub.registry import DEFAULT_COARSE, REPO, REPO_LENGTH, Entry, read_registry

logger = logging.getLogger("prv2cli")

OURS = "prv2.safetensors"  # a repository's file in our format
AUTO_SECONDS = 4.0  # `auto` waits no longer for the Hub

_REPO = re.compile(REPO)
_WEIGHT_FILES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".onnx")
_BRANCH = "main"
# What is taken of a transformers repository: no pickles, no code, none of the further variants beside the model.
_FOLDER_FILE = re.compile(
    r"config\.json|preprocessor_config\.json|processor_config\.json"
    r"|model\.safetensors|model\.safetensors\.index\.json|model-\d+-of-\d+\.safetensors"
)


@dataclass(frozen=True)
class ModelFile:
    """A model on this machine: `path` is a file, or the folder of a repository. `revision` is the Hub's commit."""

    path: Path
    name: str
    entry: Entry | None = None
    revision: str | None = None


@dataclass(frozen=True)
class Verification:
    """One file, hashed anew. `expected` None: nothing was known of it. `source` says what it was compared with."""

    name: str
    path: Path
    sha256: str
    expected: str | None
    source: Literal["registry", "first download", "nothing"]

    @property
    def ok(self) -> bool:
        return self.expected in (None, self.sha256)


@dataclass(frozen=True)
class _Source:
    """A model in the Hub. `file` None: prv2.safetensors if there is one, else the folder; `folder`: only that."""

    name: str
    repo: str
    file: str | None = None
    folder: bool = False
    entry: Entry | None = None

    @property
    def revision(self) -> str:
        return (self.entry.revision if self.entry else None) or _BRANCH

    def expected(self, commit: str) -> str | None:
        """The registered sha256, which holds for the registered commit."""
        return self.entry.sha256 if self.entry and self.entry.revision == commit else None


def weights_folder() -> Path:
    """The shipped checkpoints: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "weights"
    return installed if installed.is_dir() else package.parent / "weights"


@functools.cache
def _entries() -> dict[str, Entry]:
    return read_registry(weights_folder() / "registry.yaml")


def registry() -> dict[str, Entry]:
    """The registered models by name, better ones first. Raises CheckpointError: a damaged installation."""
    return dict(_entries())


def entry_of(model: str | Path) -> Entry | None:
    """What the registry says of a name; None of a path or any other repository. Raises UsageError."""
    return _locate(model).entry


def cache_folder(cache_dir: str | Path | None = None) -> Path:
    """Where downloads are kept: the argument, HF_HUB_CACHE, HF_HOME/hub, or the client's default.

    Raises CacheUnreadableError where that is below a home folder that is not known.
    """
    home = os.environ.get("HF_HOME")
    chosen = (
        cache_dir or os.environ.get("HF_HUB_CACHE") or (f"{home}/hub" if home else constants().HF_HUB_CACHE)
    )
    try:
        return Path(os.path.expandvars(chosen)).expanduser().absolute()
    except (RuntimeError, OSError) as error:  # of nobody's home, or a folder that was removed
        raise CacheUnreadableError(
            f"the place of the model cache is not known ({first_line(error).rstrip('.')}); set HF_HUB_CACHE to a folder"
        ) from error


def check(model: str | Path) -> None:
    """Refuse what cannot be a model's name, without any network. Raises UsageError."""
    _locate(model)


def resolve(
    model: str | Path,
    *,
    revision: str | None = None,
    offline: bool = False,
    cache_dir: str | Path | None = None,
) -> ModelFile:
    """The file or folder of a model; downloads what is not in the cache.

    Args:
        revision: a commit, branch or tag of its repository, instead of the registered or first downloaded commit.
        offline: use the cache only (also HF_HUB_OFFLINE). cache_dir: instead of the Hub's cache.

    Raises:
        UsageError: no such name. HubError: it cannot be had from the Hub, or is not in the cache when offline.
        CheckpointError: other bytes than they should be. OutputError: the cache cannot be written to.
    """
    return _resolve(model, revision, offline, cache_dir, None)


def cached(model: str | Path, *, cache_dir: str | Path | None = None) -> ModelFile | None:
    """The model as far as it is on this machine, without the network and without hashing.

    Raises UsageError, CacheUnreadableError.
    """
    found = _locate(model)
    if isinstance(found, ModelFile):
        return found
    cache = RepoCache(cache_folder(cache_dir), found.repo)
    commit = cache.commit_of(found.revision)
    names = _names_here(found, cache, commit, complete=False) if commit else None
    return _model_file(found, cache, commit, names) if commit and names else None


def auto_coarse(
    scene: Scene | None = None, *, offline: bool = False, cache_dir: str | Path | None = None
) -> ModelFile:
    """The smallest of the best metric networks that anyone may use and that need no extra: cached, or downloaded.

    With `scene` it is the one made for that. If it cannot be had, any cached one that suits; if there is none, the
    embedded network. Either way one warning says so.

    Raises:
        CheckpointError: the Hub sent other bytes than registered: that is no reason to go on with less.
    """
    suitable = [entry for entry in registry().values() if entry.suits_auto(scene)]
    try:
        return _resolve(suitable[0].name, None, offline, cache_dir, AUTO_SECONDS)
    except (HubError, OutputError, CacheUnreadableError) as error:
        reason = error
    chosen = DEFAULT_COARSE
    if not isinstance(reason, CacheUnreadableError):
        chosen = next((e.name for e in suitable if cached(e.name, cache_dir=cache_dir)), chosen)
    logger.warning("%s is not at hand: %s. Using %s instead", suitable[0].name, reason, chosen)
    return resolve(chosen, offline=True, cache_dir=cache_dir)


def verify(model: str | None = None, *, cache_dir: str | Path | None = None) -> list[Verification]:
    """Hash what is on this machine, and compare: one model, or all that are embedded or cached.

    Raises:
        UsageError: no such name, or a folder. HubError: the model is not in the cache.
    """
    if model is None:
        names = [*registry(), *other_cached(cache_dir)]
        return [result for name in names for result in _verify(name, cache_dir)]
    results = _verify(model, cache_dir)
    if not results:
        raise HubError(f"{model} is not in the cache; prv2 models pull {model} downloads it")
    return results


def other_cached(cache_dir: str | Path | None = None) -> list[str]:
    """The repositories that were downloaded without being registered."""
    known = {entry.repo for entry in registry().values()}
    return [repo for repo in cached_repos(cache_folder(cache_dir)) if repo not in known]


def path_of(model: str | Path) -> Path | None:
    """The file or folder that a name means, if any: a folder called like a registered model is not that model."""
    # os.path, as pathlib raises for names that no file system can hold.
    here = os.path.isfile(model) or (os.path.isdir(model) and str(model) not in registry())  # noqa: PTH112, PTH113
    return Path(model) if here else None


def _locate(model: str | Path) -> ModelFile | _Source:
    """What a name means: a path, a registered model or a repository. Raises UsageError."""
    text, path, entries = str(model), path_of(model), registry()
    if path is not None:
        ours = path / OURS  # as save_pretrained leaves it, and a repository that was copied
        return ModelFile(ours if ours.is_file() else path, path.name)
    entry = entries.get(text)
    if entry is not None and entry.repo is None:
        assert entry.file is not None
        return ModelFile(weights_folder() / entry.file, entry.name, entry)
    repo, as_folder = text.removeprefix("hf:"), text.startswith("hf:")
    if entry is None:
        same = (e for e in entries.values() if e.repo == repo and (e.file is None or not as_folder))
        entry = next(same, None)
    if entry is not None and entry.repo is not None:
        return _Source(text if as_folder else entry.name, entry.repo, entry.file, entry.file is None, entry)
    is_repo = _REPO.fullmatch(repo) is not None and len(repo) <= REPO_LENGTH
    if is_repo and not text.endswith(_WEIGHT_FILES) and not isinstance(model, Path):
        return _Source(text, repo, folder=as_folder)
    raise UsageError(
        f"model {text!r} is neither a file, nor a known name, nor a repository org/name; "
        f"known: {', '.join(sorted(entries))}"
    )


def _resolve(
    model: str | Path,
    revision: str | None,
    offline: bool,
    cache_dir: str | Path | None,
    seconds: float | None,
) -> ModelFile:
    """resolve(), waiting no longer than `seconds` for an answer of the Hub."""
    found = _locate(model)
    if isinstance(found, ModelFile):
        if revision is not None:
            raise UsageError(f"--revision {revision}: {found.name} lies on this machine and has no revisions")
        return found
    cache = RepoCache(cache_folder(cache_dir), found.repo)
    wanted = revision or found.revision
    commit = cache.commit_of(wanted)
    moves = revision is not None and not COMMIT.fullmatch(revision)
    offline = offline or _is_offline()
    if commit is not None and (offline or not moves):
        here = _from_cache(found, cache, commit, complete=not offline)
        if here is not None:
            return here
    if offline:
        raise HubError(
            f"{found.name} is not in the cache {cache.cache}; run once without --offline to download it"
        )
    try:
        asked = wanted if commit is None or moves else commit
        return _from_hub(found, cache, asked, wanted, seconds or timeout())
    except HubUnreachableError as error:
        here = _from_cache(found, cache, commit, complete=False) if commit is not None else None
        if here is None:
            raise
        logger.warning("%s; using the cached %s (%.12s)", error, found.name, commit)
        return here


def _from_cache(found: _Source, cache: RepoCache, commit: str, *, complete: bool) -> ModelFile | None:
    """The model as cached, if it is. A damaged file is an error, or with `complete` removed, to be had again."""
    names = _names_here(found, cache, commit, complete=complete)
    if names is None:
        return None
    damaged = [name for name in names if not cache.is_intact(commit, name, found.expected(commit))]
    for name in damaged:
        path = cache.file(commit, name)
        if not complete:
            raise CheckpointError(
                f"{path}: damaged, its sha256 has changed; prv2 models pull {found.name} renews it"
            )
        logger.warning("%s: damaged, its sha256 has changed; downloading it again", path)
        cache.remove(commit, name)
    return None if damaged else _model_file(found, cache, commit, names)


def _from_hub(found: _Source, cache: RepoCache, revision: str, branch: str, seconds: float) -> ModelFile:
    """Download what is missing of a model at a revision, and record that `branch` stands for its commit."""
    commit, names = revision, [found.file or OURS]
    if found.file is None:
        commit, listed = list_files(found.repo, revision, seconds=seconds)
        names = _choose(found, listed)
    if found.entry is not None and found.entry.commercial is not True:
        page = f"{endpoint()}/{found.repo}"
        forbids = ", no commercial use" if found.entry.commercial is False else ""
        logger.warning("%s: licence %s%s; see %s", found.name, found.entry.licence, forbids, page)
    for name in names:
        remote = describe(found.repo, name, commit, seconds=seconds)
        commit = remote.commit
        known = cache.record().files.get(f"{commit}/{name}")
        expected = found.expected(commit) or (known.sha256 if known is not None else None)
        logger.info("%s: %s/%s at %.12s", found.name, found.repo, name, commit)
        path = download(remote, cache, expected)
        cache.trust(commit, name, expected or hash_file(path))
    # The Hub was asked for a commit that was recorded before: where the branch is now, it did not say.
    settled = branch if revision == branch else commit
    cache.settle(settled, commit, names if _is_folder(names) else None)
    return _model_file(found, cache, commit, names)


def _choose(found: _Source, listed: list[str]) -> list[str]:
    """The files to take of a repository, weights last: with them there, the rest is too. Raises HubError."""
    if OURS in listed and not found.folder:
        return [OURS]
    names = sorted(
        (name for name in listed if _FOLDER_FILE.fullmatch(name)), key=lambda n: (_is_weights(n), n)
    )
    if "config.json" not in names or not any(map(_is_weights, names)):
        wanted = (
            "config.json with model.safetensors"
            if found.folder
            else f"{OURS}, nor config.json with model.safetensors"
        )
        raise HubError(f"{found.repo} holds no {wanted}; other formats are not loaded, they can hold code")
    return names


def _names_here(found: _Source, cache: RepoCache, commit: str, *, complete: bool) -> list[str] | None:
    """The files of a model that is in the cache. Unless `complete`, a folder that others have downloaded counts."""
    names: list[str] | None
    if found.file is not None:
        names = [found.file]
    elif not found.folder and cache.holds(commit, OURS):
        names = [OURS]
    else:
        names = cache.record().folders.get(commit)
        if names is None and not complete:
            names = ["config.json", "model.safetensors"]
    return names if names and all(cache.holds(commit, name) for name in names) else None


def _model_file(found: _Source, cache: RepoCache, commit: str, names: list[str]) -> ModelFile:
    path = cache.snapshot(commit) if _is_folder(names) else cache.file(commit, names[0])
    return ModelFile(path, found.name, found.entry, commit)


def _verify(model: str, cache_dir: str | Path | None) -> list[Verification]:
    """The files of one model, hashed; none if it is not in the cache."""
    found = _locate(model)
    if isinstance(found, ModelFile):
        if found.path.is_dir():
            raise UsageError(f"{model} is a folder; verify takes a file, a registered name or a repository")
        registered = found.entry.sha256 if found.entry else None
        source: Literal["registry", "nothing"] = "registry" if registered else "nothing"
        return [Verification(found.name, found.path, hash_file(found.path), registered, source)]
    cache = RepoCache(cache_folder(cache_dir), found.repo)
    commit = cache.commit_of(found.revision)
    names = _names_here(found, cache, commit, complete=False) if commit is not None else None
    return [_verified(found, cache, commit, name) for name in names] if commit is not None and names else []


def _verified(found: _Source, cache: RepoCache, commit: str, name: str) -> Verification:
    path, registered = cache.file(commit, name), found.expected(commit)
    expected = registered or cache.expectation(commit, name)
    source: Literal["registry", "first download", "nothing"] = "first download" if expected else "nothing"
    return Verification(found.name, path, hash_file(path), expected, "registry" if registered else source)


def _is_weights(name: str) -> bool:
    return name.endswith(".safetensors")


def _is_folder(names: list[str]) -> bool:
    return "config.json" in names


def _is_offline() -> bool:
    wish = os.environ.get("HF_HUB_OFFLINE")
    return bool(constants().HF_HUB_OFFLINE) if wish is None else wish.upper() in ("1", "ON", "YES", "TRUE")
