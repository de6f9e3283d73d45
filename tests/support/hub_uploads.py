"""The half of the Hub's protocol that takes files in: create, pre-upload, LFS upload, commit."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any
from urllib.parse import unquote, urlsplit

from hub_server import LARGE, HubServer, _Handler


class UploadHub(HubServer):
    """A HubServer that also takes uploads by whoever sends `write_token`; `cards` are README.md files as they came."""

    def __init__(self, write_token: str = "hf_writer") -> None:
        self.write_token = write_token
        super().__init__()
        for server in self._servers.values():
            handler: Any = server.RequestHandlerClass
            server.RequestHandlerClass = type("Uploads", (_Uploads,), {"hub": self, "origin": handler.origin})

    def keep(self, content: bytes) -> str:
        """Store a large file; returns its sha256."""
        digest = hashlib.sha256(content).hexdigest()
        self._store[digest] = content
        return digest


class _Uploads(_Handler):
    hub: UploadHub

    def do_PUT(self) -> None:
        path = unquote(urlsplit(self.path).path)
        content = self._body()
        digest = self.hub.keep(content)
        self._send(200 if path == f"/{digest}" else 400, {}, b"")

    def do_POST(self) -> None:
        self.close_connection = True
        path = unquote(urlsplit(self.path).path)
        body = self._body()
        if self.headers.get("authorization") != f"Bearer {self.hub.write_token}":
            self._refuse(401, "Unauthorized", "Invalid username or password.")
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/[^/]+", path):
            self._json({"files": [_mode(file) for file in json.loads(body)["files"]]})
        elif re.fullmatch(r"/[^/]+/[^/]+\.git/info/lfs/objects/batch", path):
            self._batch(json.loads(body))
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/([^/]+)", path):
            self._commit(match[1], match[2], [json.loads(line) for line in body.splitlines() if line])
        else:
            self._send(404, {}, b"")

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def _json(self, answer: Any) -> None:
        self._send(200, {"Content-Type": "application/json"}, json.dumps(answer).encode())

    def _create(self, asked: dict[str, Any]) -> None:
        repo = f"{asked['organization']}/{asked['name']}"
        if repo not in self.hub.repos:
            self.hub.add_repo(repo, {})
        self._json({"url": f"{self.hub.url}/{repo}", "name": repo, "id": repo})

    def _batch(self, asked: dict[str, Any]) -> None:
        objects = [
            {
                **entry,
                "authenticated": True,
                "actions": {"upload": {"href": f"{self.hub.store_url}/{entry['oid']}", "header": {}}},
            }
            for entry in asked["objects"]
        ]
        self._send(
            200,
            {"Content-Type": "application/vnd.git-lfs+json"},
            json.dumps({"transfer": "basic", "objects": objects}).encode(),
        )

    def _commit(self, repo: str, revision: str, lines: list[dict[str, Any]]) -> None:
        entry = self.hub.repos[repo]
        files = dict(entry.commits[entry.revisions[revision]])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                content = self.hub.content(value["oid"])
                if content is None:
                    self._refuse(400, "BadRequest", f"{value['path']} was never uploaded")
                    return
                files[value["path"]] = content
        commit = self.hub.add_repo(repo, files, revision=revision)
        self._json({"commitUrl": f"{self.hub.url}/{repo}/commit/{commit}", "commitOid": commit})


def _mode(file: dict[str, Any]) -> dict[str, Any]:
    large = file["path"].endswith(LARGE)
    return {
        "path": file["path"],
        "uploadMode": "lfs" if large else "regular",
        "shouldIgnore": False,
        "oid": None,
    }
