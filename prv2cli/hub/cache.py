"""The Hub's cache on this machine: where files lie, and whether they are still what was downloaded. No network.

    <cache>/models--org--name/        laid out as huggingface_hub does, and shared with other programs
    ├── blobs/<etag>                  content; <etag>.prv2.incomplete while it arrives
    ├── snapshots/<commit>/<file>     links to blobs
    ├── refs/<branch>                 the commit of a branch, as last seen
    └── prv2.json                     ours: what was trusted

Trust on first use. A file whose sha256 is in the registry must match it. Of any other, prv2.json keeps the sha256 of
the first download, and the commit that the branch stood at: from then on that commit is used, and these bytes only.
Hashes are compared again whenever a file's size or time of change is not the one seen at the last comparison, and
always by `prv2 models verify`. Removing a repository from the cache removes what was trusted with it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prv2cli.errors import CheckpointError, InputError, OutputError
from prv2cli.files.atomic import atomic_write, output_error
from prv2cli.files.hashing import hash_file
from prv2cli.files.text import shown

COMMIT = re.compile(r"[0-9a-f]{40}")
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
SHA256 = re.compile(r"[0-9a-f]{64}")
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,200}")
_SAFE_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,200}")
_RECORD = "prv2.json"
_LONGEST_NAME = 250  # bytes; file systems take 255


class Known(BaseModel):
    """One file as it was last found to be right. Size in bytes, time of change in nanoseconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str
    size: int
    changed: int


class Record(BaseModel):
    """What was trusted of one repository: `files` by commit/name, `folders` are names by commit."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    revisions: dict[str, Commit] = {}
    files: dict[str, Known] = {}
    folders: dict[Commit, list[str]] = {}


class CacheUnreadableError(InputError):
    """The cache cannot be looked into, or its place is not known."""


@dataclass(frozen=True)
class RepoCache:
    """One repository's part of the cache."""

    cache: Path
    repo: str

    @property
    def folder(self) -> Path:
        return self.cache / f"models--{self.repo.replace('/', '--')}"

    def snapshot(self, commit: str) -> Path:
        """The folder of one commit's files."""
        return self.folder / "snapshots" / commit

    def file(self, commit: str, name: str) -> Path:
        """Where a file lies once it has been downloaded."""
        return self.snapshot(commit) / check_name(name, self.repo)

    def holds(self, commit: str, name: str) -> bool:
        """Whether a file has been downloaded. Raises CacheUnreadableError where that cannot be told."""
        with self.reading():
            return self.file(commit, name).is_file()

    def blob(self, etag: str) -> Path:
        """Where the content itself lies. The name comes from the server, so it is checked."""
        if not _SAFE_NAME.fullmatch(etag):
            raise CheckpointError(
                f"{self.repo}: the server calls the content {etag!r}, which is no safe name"
            )
        return self.folder / "blobs" / etag

    def commit_of(self, revision: str) -> str | None:
        """The commit that a revision stands for, as far as known here: what was trusted, else as last seen."""
        if COMMIT.fullmatch(revision):
            return revision
        trusted = self.record().revisions.get(revision)
        if trusted is not None or not _is_safe_revision(revision):
            return trusted
        try:
            seen = (self.folder / "refs" / revision).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return None
        return seen if COMMIT.fullmatch(seen) else None

    def record(self) -> Record:
        """What was trusted. Raises CheckpointError when the record is damaged, CacheUnreadableError."""
        path = self.folder / _RECORD
        try:
            return Record.model_validate_json(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return Record()
        except PermissionError as error:
            raise unreadable(self.cache, error) from error
        except (OSError, ValidationError) as error:
            raise CheckpointError(
                f"{path}: the record of what was downloaded is damaged; delete it to trust the files anew"
            ) from error

    def is_intact(self, commit: str, name: str, expected: str | None) -> bool:
        """Whether a cached file is what it should be: `expected`, else what was trusted, else what the Hub said.

        A file that nothing is known of is trusted from now on. Hashes only when the file has changed.
        """
        path = self.file(commit, name)
        known = self.record().files.get(f"{commit}/{name}")
        with self.reading():
            state = path.stat()
            if known is not None and (known.size, known.changed) == (state.st_size, state.st_mtime_ns):
                return expected is None or known.sha256 == expected
            sha256 = hash_file(path)
        promised = expected or (known.sha256 if known is not None else self._promised(path))
        if promised is not None and promised != sha256:
            return False
        with suppress(OutputError):  # a cache that cannot be written to is as good: it is hashed every time
            self.trust(commit, name, sha256)
        return True

    def trust(self, commit: str, name: str, sha256: str) -> None:
        """Record the sha256 that a file has now. Raises OutputError."""
        state = self.file(commit, name).stat()
        known = Known(sha256=sha256, size=state.st_size, changed=state.st_mtime_ns)
        self._update(lambda record: record.files.update({f"{commit}/{name}": known}))

    def settle(self, revision: str, commit: str, folder: list[str] | None) -> None:
        """Record the commit that a revision stands for, and which files a folder consists of. Raises OutputError."""

        def change(record: Record) -> None:
            if not COMMIT.fullmatch(revision):
                record.revisions[revision] = commit
            if folder is not None:
                record.folders[commit] = folder

        self._update(change)
        if COMMIT.fullmatch(revision) or not _is_safe_revision(revision):
            return
        path = self.folder / "refs" / revision  # where other programs look for it
        with self.storing():
            path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(commit.encode())

    def expectation(self, commit: str, name: str) -> str | None:
        """The sha256 that a cached file should have by the record, else by the name the Hub gave its content."""
        known = self.record().files.get(f"{commit}/{name}")
        return known.sha256 if known is not None else self._promised(self.file(commit, name))

    def _promised(self, path: Path) -> str | None:
        """The sha256 in a blob's name: the Hub names the large files by their content."""
        name = path.resolve().name
        return name if SHA256.fullmatch(name) else None

    def link(self, commit: str, name: str, blob: Path) -> Path:
        """Put a blob's content in its place in the snapshot: a relative link, or the file itself without links."""
        target = self.file(commit, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            target.unlink()
        try:
            target.symlink_to(os.path.relpath(blob, target.parent))
        except OSError:
            blob.replace(target)
        return target

    def remove(self, commit: str, name: str) -> None:
        """Remove a file and its content from the cache."""
        path = self.file(commit, name)
        with self.storing():
            blob = path.resolve()
            path.unlink(missing_ok=True)
            if self.folder.resolve() in blob.parents:
                blob.unlink(missing_ok=True)

    def _update(self, change: Callable[[Record], None]) -> None:
        """Change the record, alone among the processes that use this cache. Raises OutputError."""
        with self.lock("prv2"):
            record = self.record()
            change(record)
            with atomic_write(self.folder / _RECORD) as file:
                file.write(record.model_dump_json(indent=1).encode())

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Exclude other processes: the operating system releases the lock of a process that was killed."""
        from huggingface_hub.utils import WeakFileLock

        folder = self.cache / ".locks" / self.folder.name
        with self.storing():
            folder.mkdir(parents=True, exist_ok=True)
            held = WeakFileLock(folder / f"{name}.prv2.lock")
            held.__enter__()
        try:
            yield
        finally:
            held.__exit__(None, None, None)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Turn what keeps a cache from being read into one line that names it."""
        try:
            yield
        except PermissionError as error:
            raise unreadable(self.cache, error) from error

    @contextmanager
    def storing(self) -> Iterator[None]:
        """Turn what a cache can refuse (no space, no permission) into one line that names it."""
        try:
            yield
        except OSError as error:
            explained = output_error(f"the model cache {self.cache}", error)
            raise type(explained)(f"{explained} (HF_HUB_CACHE says where the cache is)") from error


def cached_repos(cache: Path) -> list[str]:
    """The repositories that prv2 has downloaded into a cache. Raises CacheUnreadableError."""
    try:
        records = list(cache.glob(f"models--*--*/{_RECORD}"))
    except PermissionError as error:
        raise unreadable(cache, error) from error
    return sorted(path.parent.name.removeprefix("models--").replace("--", "/", 1) for path in records)


def unreadable(cache: Path, error: OSError) -> CacheUnreadableError:
    """The one line for a cache that cannot be looked into."""
    return CacheUnreadableError(
        f"the model cache {shown(cache)} cannot be read ({error.strerror}); HF_HUB_CACHE says where the cache is"
    )


def check_name(name: str, repo: str) -> str:
    """A file's name in a repository, if it cannot lead out of the folder. Raises CheckpointError."""
    parts = name.split("/")
    if {"", ".", ".."} & set(parts) or re.search(r"[\\:\x00-\x1f]", name):
        raise CheckpointError(f"{repo}: refused a file called {name!r}: its name could lead out of the cache")
    if len(name.encode(errors="replace")) > _LONGEST_NAME:
        raise CheckpointError(f"{repo}: refused a file called {name[:40]!r}...: its name is too long")
    return name


def _is_safe_revision(revision: str) -> bool:
    return _SAFE_REVISION.fullmatch(revision) is not None and ".." not in revision
