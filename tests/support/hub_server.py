"""A model Hub on loopback, for tests with the real client: repositories, access rules, and faults on demand.

It speaks what the client needs of the Hub's protocol: `HEAD` and `GET` of `/{repo}/resolve/{revision}/{file}`,
`/api/models/{repo}[/revision/{revision}]` and `/api/models/{repo}/tree/{revision}`. Large files are redirected to a
second origin, as the Hub does, with the content's sha256 in `X-Linked-ETag`; small ones come with git's own hash.

    with HubServer() as hub:
        hub.use(monkeypatch, tmp_path / "cache")
        hub.add_repo("org/name", {"prv2.safetensors": content})
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pytest

if TYPE_CHECKING:
    from typing import Self

LARGE = (".safetensors", ".pth", ".bin", ".pt")  # what a repository keeps outside git
CHUNK = 1 << 16
GATED = "Access to model is restricted. You must have access to it and be authenticated to access it."


@dataclass(frozen=True)
class Request:
    """One request that arrived: `origin` is hub or store, `range` the Range header, `token` what was sent."""

    method: str
    origin: str
    path: str
    range: str | None = None
    token: str | None = None


@dataclass
class Repo:
    """Files by commit; `revisions` are branches and tags."""

    commits: dict[str, dict[str, bytes]]
    revisions: dict[str, str]
    gated: bool = False
    token: str | None = None  # what opens a gated or private repository
    private: bool = False

    def commit(self, revision: str) -> str | None:
        return revision if revision in self.commits else self.revisions.get(revision)


@dataclass
class Faults:
    """What goes wrong from now on.

    Attributes:
        drop_after: the next answers with content break off after so many bytes, one answer for each number.
        stall_after: answers with content stop after so many bytes until `resume` is set.
        status: answer everything with this code. delay: seconds before each answer.
        corrupt: flip the first byte of content that starts at 0. no_ranges: ignore Range headers.
        stalled: set by the server when an answer has stopped.
    """

    drop_after: deque[int] = field(default_factory=deque)
    stall_after: int | None = None
    status: int | None = None
    delay: float = 0.0
    corrupt: bool = False
    no_ranges: bool = False
    stalled: threading.Event = field(default_factory=threading.Event)
    resume: threading.Event = field(default_factory=threading.Event)


class HubServer:
    """A Hub of a few repositories on a free port of loopback. A context manager; `requests` is the log."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.requests: list[Request] = []
        self.faults = Faults()
        self._store: dict[str, bytes] = {}
        self._servers = {name: self._server(name) for name in ("hub", "store")}
        self._threads = [
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
            for server in self._servers.values()
        ]

    def _server(self, origin: str) -> ThreadingHTTPServer:
        server = ThreadingHTTPServer(
            ("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self, "origin": origin})
        )
        server.daemon_threads = True
        server.block_on_close = False
        return server

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Go down: connections are refused from now on."""
        self.faults.resume.set()
        for server in self._servers.values():
            server.shutdown()
            server.server_close()

    @property
    def url(self) -> str:
        """What HF_ENDPOINT is set to."""
        return f"http://127.0.0.1:{self._servers['hub'].server_port}"

    @property
    def store_url(self) -> str:
        """The other origin, which holds the large files."""
        return f"http://127.0.0.1:{self._servers['store'].server_port}"

    def use(self, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
        """Let this process's client ask here, with its own cache and no token; write and retry in small steps."""
        monkeypatch.setenv("HF_ENDPOINT", self.url)
        monkeypatch.setenv("HF_HUB_CACHE", str(cache))
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(cache.with_name("no token")))
        monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", CHUNK)
        monkeypatch.setattr("huggingface_hub.file_download.time", SimpleNamespace(sleep=lambda seconds: None))

    def add_repo(
        self,
        repo: str,
        files: dict[str, bytes],
        *,
        commit: str | None = None,
        gated: bool = False,
        private: bool = False,
        token: str | None = None,
        revision: str = "main",
    ) -> str:
        """Publish files as a new commit of a repository; `revision` moves to it. Returns the commit."""
        entry = self.repos.setdefault(repo, Repo({}, {}))
        if commit is None:
            digest = hashlib.sha1(f"{repo} {len(entry.commits)}".encode())
            for name, content in sorted(files.items()):
                digest.update(name.encode() + content)
            commit = digest.hexdigest()
        entry.commits[commit] = dict(files)
        entry.revisions[revision] = commit
        entry.gated, entry.private, entry.token = gated, private, token
        for content in files.values():
            self._store[hashlib.sha256(content).hexdigest()] = content
        return commit

    def downloads(self) -> list[Request]:
        """The requests that fetched content of files (not those that only asked about them)."""
        return [r for r in self.requests if r.method == "GET" and not r.path.startswith("/api/")]

    def content(self, digest: str) -> bytes | None:
        """A large file's bytes, by sha256."""
        return self._store.get(digest)


def git_hash(content: bytes) -> str:
    """The name that git gives to a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20
    hub: HubServer
    origin: str

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: `requests` is the log."""

    def _answer(self) -> None:
        self.close_connection = True
        path = unquote(urlsplit(self.path).path)
        bearer = self.headers.get("authorization")
        token = bearer.removeprefix("Bearer ") if bearer else None
        if not path.startswith("/api/") or path.startswith("/api/models/"):  # the client's own chatter aside
            self.hub.requests.append(
                Request(self.command, self.origin, path, self.headers.get("range"), token)
            )
        faults = self.hub.faults
        if faults.delay:
            time.sleep(faults.delay)
        if faults.status is not None:
            self._send(faults.status, {}, b"")
        elif self.origin == "store":
            content = self.hub.content(path.removeprefix("/"))
            self._send(404, {}, b"") if content is None else self._content(content, {})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/(.+))?", path):
            self._about(match[1], match[2] or "revision", match[3] or "main", token)
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(match[1], match[2], match[3], token)
        else:
            self._send(404, {}, b"")

    def _allowed(self, name: str, token: str | None) -> Repo | None:
        repo = self.hub.repos.get(name)
        admitted = repo is not None and repo.token is not None and token == repo.token
        if repo is None or (repo.private and not admitted):
            self._refuse(401 if token is None else 404, "RepoNotFound", "Repository not found")
            return None
        if repo.gated and not admitted:
            self._refuse(401 if token is None else 403, "GatedRepo", GATED)
            return None
        return repo

    def _about(self, name: str, what: str, revision: str, token: str | None) -> None:
        # The Hub tells anyone what a gated repository holds; only its files are closed.
        repo = self.hub.repos.get(name)
        if (repo is None or not repo.gated) and self._allowed(name, token) is None:
            return
        assert repo is not None
        commit = repo.commit(revision)
        if commit is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return
        files = repo.commits[commit]
        if what == "tree":
            answer: Any = [_listed(path, content) for path, content in files.items()]
        else:
            siblings = [{"rfilename": path} for path in files]
            answer = {
                "id": name,
                "modelId": name,
                "sha": commit,
                "private": repo.private,
                "siblings": siblings,
            }
        self._send(200, {"Content-Type": "application/json"}, json.dumps(answer).encode())

    def _file(self, name: str, revision: str, path: str, token: str | None) -> None:
        repo = self._allowed(name, token)
        if repo is None:
            return
        commit = repo.commit(revision)
        if commit is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return
        content = repo.commits[commit].get(path)
        if content is None:
            self._refuse(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
            return
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if not path.endswith(LARGE):
            self._content(content, headers | {"ETag": f'"{git_hash(content)}"'})
            return
        digest = hashlib.sha256(content).hexdigest()
        linked = {"X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{digest}"'}
        self._send(302, headers | linked | {"Location": f"{self.hub.store_url}/{digest}"}, b"")

    def _content(self, content: bytes, headers: dict[str, str]) -> None:
        """All of it, or what the Range header asks for."""
        faults, start, status = self.hub.faults, 0, 200
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
        if match and not faults.no_ranges:
            start, status = int(match[1]), 206
            if start >= len(content):
                self._send(416, {"Content-Range": f"bytes */{len(content)}"}, b"")
                return
            headers = headers | {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        body = content[start:]
        if faults.corrupt and start == 0:
            body = bytes([body[0] ^ 255]) + body[1:]
        self._send(status, headers, body)

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body)), "Connection": "close"} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD" or not body:
            return
        faults, is_file = self.hub.faults, "/api/" not in self.path
        limit = faults.drop_after.popleft() if is_file and faults.drop_after else len(body)
        for start in range(0, limit, CHUNK):
            if is_file and faults.stall_after is not None and start >= faults.stall_after:
                faults.stalled.set()
                faults.resume.wait(20)
            try:
                self.wfile.write(body[start : min(start + CHUNK, limit)])
            except OSError:
                return  # the client has gone

    def _refuse(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        about = {"X-Error-Code": code, "X-Error-Message": message}
        self._send(status, about | (headers or {}), json.dumps({"error": message}).encode())


def _listed(path: str, content: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": git_hash(content)}
    if path.endswith(LARGE):
        digest = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": digest, "sha256": digest, "size": len(content), "pointerSize": 130}
    return entry
