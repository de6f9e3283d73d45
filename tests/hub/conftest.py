"""What the tests of this room share."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import HubServer

from prv2cli.choices import Scene
from prv2cli.hub.registry import Entry
from prv2cli.hub.resolve import registry


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
    """Metric networks, all published on the server, and the embedded ones.

    Two for anyone and any scene, two for anyone and one scene, one that not anyone may use, one whose card is silent.
    """
    entries = {name: entry for name, entry in registry().items() if entry.embedded}
    kinds: tuple[tuple[str, Scene | None, bool | None], ...] = (
        ("any", None, True),
        ("any-large", None, True),
        ("in", "indoor", True),
        ("out", "outdoor", True),
        ("large", "indoor", False),
        ("silent", "indoor", None),
    )
    for name, scene, free in kinds:
        content = name.encode() * 50_000
        repo = f"them/{name}"
        entries[name] = Entry(
            name=name,
            kind="coarse",
            loader="dav2" if scene else "moge2",
            repo=repo,
            file="net.pth",
            revision=server.add_repo(repo, {"net.pth": content}),
            sha256=hashlib.sha256(content).hexdigest(),
            licence={True: "Apache-2.0", False: "CC-BY-NC-4.0", None: "not stated"}[free],
            commercial=free,
            domain="tests",
            scene=scene,
        )
    monkeypatch.setattr("prv2cli.hub.resolve._entries", lambda: entries)
    return entries
