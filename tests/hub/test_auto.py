"""Which coarse network `auto` takes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hub_server import HubServer

from prv2cli.choices import Scene
from prv2cli.errors import CheckpointError, Prv2Error
from prv2cli.hub.registry import Entry
from prv2cli.hub.resolve import auto_coarse, resolve, weights_folder


@pytest.mark.parametrize(("scene", "name"), [(None, "any"), ("indoor", "in"), ("outdoor", "out")])
def test_auto_takes_the_network_for_the_scene(
    registered: dict[str, Entry], scene: Scene | None, name: str
) -> None:
    assert auto_coarse(scene).entry == registered[name]
    assert auto_coarse(scene, offline=True).entry == registered[name]


def _refuse(path: Path) -> bool:
    raise PermissionError(13, "Permission denied", str(path))


@pytest.mark.parametrize(
    "how", ["silent", "no name server", "refused", "offline", "gated", "full", "closed", "homeless"]
)
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

        def nobody_answers(*_: object, **__: object) -> list[object]:
            time.sleep(3.0)
            return []

        monkeypatch.setattr("socket.getaddrinfo", nobody_answers)
    elif how == "refused":
        server.stop()
    elif how == "gated":
        server.repos["them/any"].gated = True
    elif how == "full":
        cache.touch()
    elif how == "closed":  # root may look everywhere
        monkeypatch.setattr(Path, "is_file", _refuse)
    elif how == "homeless":
        monkeypatch.setenv("HF_HUB_CACHE", "~nobody-of-this-name/cache")
    start = time.monotonic()
    found = auto_coarse(offline=how == "offline")
    assert time.monotonic() - start < 1.5
    assert (found.name, found.path) == ("lite", weights_folder() / "lite.safetensors")
    (message,) = said
    assert message.startswith("any is not at hand: ")
    assert message.endswith("Using lite instead")


def test_auto_prefers_what_is_cached_to_the_embedded_network(
    server: HubServer,
    registered: dict[str, Entry],
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolve("any-large")
    server.stop()
    assert auto_coarse().name == "any-large"
    assert auto_coarse("indoor").name == "lite"
    assert [text.rpartition(". ")[2] for text in said] == [
        "Using any-large instead",
        "Using lite instead",
    ]


def test_auto_does_not_go_on_after_wrong_bytes(server: HubServer, registered: dict[str, Entry]) -> None:
    server.faults.corrupt = True
    with pytest.raises(CheckpointError, match=r"them/any/net\.pth"):
        auto_coarse()


def test_a_named_model_never_falls_back(server: HubServer, registered: dict[str, Entry]) -> None:
    server.stop()
    with pytest.raises(Prv2Error, match="cannot reach"):
        resolve("in")
