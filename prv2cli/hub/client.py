"""Questions to the Hub and downloads from it, through huggingface_hub; its errors in one line each.

Content is fetched with the client's own `http_get`, into a partial file that the next run goes on with: the client's
`hf_hub_download` starts anew after an interruption. It is compared with its sha256 before it enters the cache.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from prv2cli.errors import CheckpointError, DiskFullError, Prv2Error, UsageError
from prv2cli.files.hashing import git_hash, hash_file
from prv2cli.hub.cache import COMMIT, SHA256, RepoCache, check_name
from prv2cli.hub.library import constants
from prv2cli.version import __version__

logger = logging.getLogger("prv2cli")
T = TypeVar("T")

_GIT_HASH = COMMIT  # as long as a commit's


class HubError(Prv2Error):
    """A model cannot be had from the Hub."""


class HubUnreachableError(HubError):
    """The Hub does not answer, or the connection broke off."""


@dataclass(frozen=True)
class RemoteFile:
    """What the Hub says of one file. `size` in bytes; `etag` is the content's sha256, or git's hash of a small file."""

    repo: str
    name: str
    commit: str
    etag: str
    size: int | None

    def fault(self, path: Path, expected: str | None) -> str | None:
        """What is wrong with content that was downloaded, or None."""
        if expected is not None or SHA256.fullmatch(self.etag):
            found, promised = hash_file(path), expected or self.etag
            return None if found == promised else f"sha256 {found[:16]}... instead of {promised[:16]}..."
        if _GIT_HASH.fullmatch(self.etag) and git_hash(path) != self.etag:
            return "other content than the Hub says"
        return None


def endpoint() -> str:
    """The Hub's address: HF_ENDPOINT, or the public one."""
    return str(os.environ.get("HF_ENDPOINT") or constants().ENDPOINT).rstrip("/")


def timeout() -> float:
    """Seconds to wait for an answer (HF_HUB_ETAG_TIMEOUT)."""
    return float(constants().HF_HUB_ETAG_TIMEOUT)


def list_files(repo: str, revision: str, *, seconds: float) -> tuple[str, list[str]]:
    """The commit of a revision, and its files' names, all checked.

    Raises:
        HubError: no such repository or revision, no access. HubUnreachableError: no answer within `seconds`.
        CheckpointError: a name that could lead out of the cache.
    """
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint(), library_name="prv2", library_version=__version__)
    with _explained(repo, revision):
        about = _within(seconds, lambda: api.model_info(repo, revision=revision, timeout=seconds))
    if not COMMIT.fullmatch(about.sha or ""):
        raise HubError(f"{endpoint()} does not answer like a model Hub; check HF_ENDPOINT")
    return str(about.sha), [check_name(file.rfilename, repo) for file in about.siblings or []]


def describe(repo: str, name: str, revision: str, *, seconds: float) -> RemoteFile:
    """What the Hub says of a file. Raises as list_files() does."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    check_name(name, repo)
    with _explained(repo, revision, name):
        url = hf_hub_url(repo, name, revision=revision, endpoint=endpoint())
        about = _within(seconds, lambda: get_hf_file_metadata(url, timeout=seconds, endpoint=endpoint()))
    commit = about.commit_hash or ""
    other = COMMIT.fullmatch(revision) and commit != revision
    if not about.etag or not COMMIT.fullmatch(commit) or other:
        raise HubError(f"{endpoint()} does not answer like a model Hub; check HF_ENDPOINT")
    return RemoteFile(repo, name, commit, about.etag, about.size)


def download(remote: RemoteFile, cache: RepoCache, expected: str | None) -> Path:
    """Bring a file into the cache, going on where an interrupted download stopped.

    Args:
        expected: the sha256 that it must have, where it is known beforehand.

    Raises:
        CheckpointError: other bytes than expected; nothing is kept. OutputError: the cache cannot take them.
        HubUnreachableError: the connection broke off; what has arrived is kept for the next attempt.
    """
    if expected is not None and SHA256.fullmatch(remote.etag) and remote.etag != expected:
        raise _refused(remote, f"sha256 {remote.etag[:16]}... instead of {expected[:16]}...")
    blob = cache.blob(remote.etag)
    with cache.lock(blob.name):
        with cache.storing():
            blob.parent.mkdir(parents=True, exist_ok=True)
            if blob.exists() and remote.fault(blob, expected) is not None:
                blob.unlink()
        if not blob.exists():
            _fetch_right(remote, cache, blob, expected)
        with cache.storing():
            return cache.link(remote.commit, remote.name, blob)


def _fetch_right(remote: RemoteFile, cache: RepoCache, blob: Path, expected: str | None) -> None:
    """Fetch into the partial file, compare, then put it in the blob's place."""
    partial = blob.with_name(f"{blob.name}.prv2.incomplete")
    resumed = _fetch(remote, cache, partial)
    fault = remote.fault(partial, expected)
    if fault is not None and resumed:  # the part from before may be what is wrong
        logger.info("%s: what was left of an earlier download was damaged; starting anew", remote.name)
        partial.unlink()
        _fetch(remote, cache, partial)
        fault = remote.fault(partial, expected)
    if fault is not None:
        partial.unlink()
        raise _refused(remote, fault)
    with cache.storing():
        partial.replace(blob)


def _fetch(remote: RemoteFile, cache: RepoCache, partial: Path) -> int:
    """Fetch what is missing of a partial file. Returns how many bytes were there before.

    As long as each attempt gets further than all before, a broken connection is taken up again: not every version
    of the client does so itself.
    """
    start = furthest = _arrived(partial)
    if remote.size is None or start > remote.size:
        start = furthest = 0
    while (failure := _attempt(remote, cache, partial)) is not None:
        if _arrived(partial) <= furthest:
            raise failure
        furthest = _arrived(partial)
    return start


def _attempt(remote: RemoteFile, cache: RepoCache, partial: Path) -> HubUnreachableError | None:
    """_go_on(), with the broken connection as a result."""
    try:
        _go_on(remote, cache, partial)
    except HubUnreachableError as failure:
        return failure
    return None


def _go_on(remote: RemoteFile, cache: RepoCache, partial: Path) -> None:
    """One attempt to append to a partial file what is missing."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    with cache.storing():
        done = _arrived(partial)
        if done and (remote.size is None or done > remote.size):
            partial.unlink()
            done = 0
        _check_space(remote, cache, done)
    url = hf_hub_url(remote.repo, remote.name, revision=remote.commit, endpoint=endpoint())
    explained = _explained(remote.repo, remote.commit, remote.name, partial=partial)
    with cache.storing(), explained, _quietly(), partial.open("ab") as file:
        http_get(
            url,
            file,
            resume_size=done,
            headers=build_hf_headers(library_name="prv2", library_version=__version__),
            expected_size=remote.size,
            displayed_filename=remote.name,
        )


def _arrived(partial: Path) -> int:
    return partial.stat().st_size if partial.exists() else 0


def _check_space(remote: RemoteFile, cache: RepoCache, done: int) -> None:
    missing = (remote.size or 0) - done
    free = shutil.disk_usage(cache.cache).free
    if missing > free:
        raise DiskFullError(
            f"{remote.name} needs {_megabytes(missing)} and {cache.cache} has {_megabytes(free)} left; "
            "free some space or set HF_HUB_CACHE to another folder"
        )


def _refused(remote: RemoteFile, fault: str) -> CheckpointError:
    return CheckpointError(
        f"{remote.repo}/{remote.name} at {remote.commit[:12]}: {fault}; nothing was kept. "
        "Try again; if it stays so, the file has been changed on the Hub"
    )


@contextmanager
def _quietly() -> Iterator[None]:
    """No progress bar where warnings are not wanted either. HF_HUB_DISABLE_PROGRESS_BARS decides before this does."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    name = "huggingface_hub.http_get"
    decided = constants().HF_HUB_DISABLE_PROGRESS_BARS is not None or are_progress_bars_disabled(name)
    if decided or logger.isEnabledFor(logging.WARNING):
        yield
        return
    disable_progress_bars(name)
    try:
        yield
    finally:
        enable_progress_bars(name)


@contextmanager
def _explained(
    repo: str, revision: str, name: str | None = None, *, partial: Path | None = None
) -> Iterator[None]:
    """Turn what the client raises into one line that says what to do."""
    from huggingface_hub import errors

    refusals = _refusals(repo, revision, name)
    try:
        yield
    except tuple(refusals) as error:
        raise next(told for kind, told in refusals.items() if isinstance(error, kind)) from error
    except errors.HfHubHTTPError as error:
        raise _of_status(repo, error.response.status_code) from error
    except (errors.HTTPError, TimeoutError, errors.OfflineModeIsEnabled) as error:
        raise _unreachable(error, partial) from error
    except OSError as error:
        if error.errno is None:
            raise _unreachable(error, partial) from error
        if partial is not None:
            raise  # the cache, not the network
        raise HubError(
            f"the Hub's client cannot work: {error}; HF_HOME says where it keeps its files"
        ) from error


def _refusals(repo: str, revision: str, name: str | None) -> dict[type[Exception], Prv2Error]:
    """What the client says of a request that no other attempt would serve better; narrower exceptions come first."""
    from huggingface_hub import errors

    page = _page(repo)
    login = "log in with `hf auth login` or set HF_TOKEN"
    return {
        errors.GatedRepoError: HubError(f"{repo} is gated: accept its licence at {page}, then {login}"),
        errors.RepositoryNotFoundError: HubError(
            f"no repository {repo} at {endpoint()}; if it is private, {login}"
        ),
        errors.RevisionNotFoundError: HubError(
            f"{repo} has no revision {revision!r}; see {page}/commits/main"
        ),
        errors.EntryNotFoundError: HubError(
            f"{repo} holds no file {name} at revision {revision}; see {page}/tree/main"
        ),
        errors.HFValidationError: UsageError(f"{repo!r} is no name of a repository: write org/name"),
    }


def _page(repo: str) -> str:
    return f"{endpoint()}/{repo}"


def _of_status(repo: str, status: int) -> HubError:
    page = _page(repo)
    if status in (401, 403):
        return HubError(
            f"{repo}: access refused ({status}); see {page}, then log in with `hf auth login` or set HF_TOKEN"
        )
    if status == 429 or status >= 500:
        return HubUnreachableError(f"{endpoint()} cannot answer now ({status}); try again later")
    return HubError(f"{repo}: {endpoint()} answers {status}; see {page}")


def _unreachable(error: BaseException, partial: Path | None) -> HubUnreachableError:
    reason = (str(error).splitlines() or [""])[0] or type(error).__name__
    arrived = _arrived(partial) if partial is not None else 0
    if arrived:
        return HubUnreachableError(
            f"the download broke off after {_megabytes(arrived)} ({reason}); run it again to go on from there"
        )
    return HubUnreachableError(
        f"cannot reach {endpoint()} ({reason}); check the connection, or use --offline"
    )


def _within(seconds: float, call: Callable[[], T]) -> T:
    """The result of a call, or TimeoutError. A name server or a list of dead addresses has no limit of its own."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if failure:
        raise failure[0]
    if not outcome:
        raise TimeoutError(f"no answer within {seconds:.0f} s")
    return outcome[0]


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
