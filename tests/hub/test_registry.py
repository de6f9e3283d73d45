"""weights/registry.yaml: what a damaged installation is told, and what an entry must say."""

from __future__ import annotations

import copy
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from prv2cli.cli import app
from prv2cli.errors import CheckpointError
from prv2cli.hub.registry import read_registry
from prv2cli.hub.resolve import _entries, registry, weights_folder

SHIPPED = yaml.safe_load((weights_folder() / "registry.yaml").read_text(encoding="utf-8"))
DAV2 = next(k for k, model in enumerate(SHIPPED["models"]) if model["loader"] == "dav2")
UNREADABLE = {
    "empty": b"",
    "list": b"- 1\n",
    "no models": b"models:\n",
    "none": b"models: []\n",
    "no mapping": b"models: [1, [], null]\n",
    "bytes": b"models: \xff\xfe\n",
    "deep": b"models: " + b"[" * 3000,
    "a circle": b"models: &a [*a]\n",
    "timestamp": b"models: !!timestamp x\n",
    "object": b"models: !!python/object/apply:os.system [ls]\n",
    "cut": (weights_folder() / "registry.yaml").read_bytes()[:1000],
}
WRONG: dict[str, tuple[str, Any]] = {
    "another key": ("url", "https://x"),
    "name with a path": ("name", "../lite"),
    "name with a line break": ("name", "a\nb"),
    "empty name": ("name", ""),
    "kind": ("kind", "teacher"),
    "repository with a path": ("repo", "a/../b"),
    "long repository": ("repo", f"them/{'[' * 300}"),
    "very long repository": ("repo", f"them/{'a' * 300}"),
    "file elsewhere": ("file", "../net.pth"),
    "hidden file": ("file", ".net.pth"),
    "branch": ("revision", "main"),
    "no revision for the sha256": ("revision", None),
    "short sha256": ("sha256", "b782898d"),
    "sha256 in capitals": ("sha256", "B" * 64),
    "a number for a sha256": ("sha256", int("1" * 64)),
    "no size": ("size", 0),
    "a text for a size": ("size", "99222290"),
    "licence": ("licence", ""),
    "a word for a boolean": ("commercial", "false"),
    "control codes": ("domain", "\x1b[2J"),
    "scene": ("scene", "underwater"),
    "no range": ("max_depth", 0.0),
    "infinite range": ("max_depth", float("inf")),
    "input size": ("input_size", -1),
}


def _refusal(content: bytes, folder: Path) -> str:
    path = folder / "registry.yaml"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=re.escape(f"{path}: ")) as raised:
        read_registry(path)
    message = str(raised.value)
    assert message.isprintable()
    assert len(message) < 1000
    assert message.endswith("install prv2cli anew")
    return message


def forbid(models: list[dict[str, Any]], loader: str) -> None:
    for model in models:
        if model["loader"] == loader:
            model["commercial"] = False


def _with(change: Callable[[list[dict[str, Any]]], object]) -> bytes:
    models = copy.deepcopy(SHIPPED["models"])
    change(models)
    return yaml.safe_dump({"models": models}).encode()


def test_the_shipped_one_is_read_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "registry.yaml"
    path.write_bytes(_with(lambda models: None))
    entries = read_registry(path)
    assert entries == registry()
    written = [entry.model_dump(exclude_unset=True) for entry in entries.values()]
    assert written == SHIPPED["models"]


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
def test_what_is_no_registry(content: bytes, tmp_path: Path) -> None:
    _refusal(content, tmp_path)


@pytest.mark.parametrize(("key", "value"), WRONG.values(), ids=WRONG)
def test_an_entry_that_cannot_be(key: str, value: Any, tmp_path: Path) -> None:
    assert set(SHIPPED["models"][DAV2]) | {"commercial", "metric"} == set(registry()["lite"].model_dump())
    message = _refusal(_with(lambda models: models[DAV2].update({key: value})), tmp_path)
    assert f"models.{DAV2}" in message
    assert key in message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda models: models.append(models[0]), "refiner-s is there 2 times"),
        (lambda models: models.pop(0), "refiner-s must be there"),
        (
            lambda models: models[-1].update(repo="a/b", revision="c" * 40),
            "lite must be there, without a repo",
        ),
        (lambda models: models[0].pop("sha256"), "needs `file` and `sha256`"),
        (lambda models: models[0].pop("file"), "needs `file` and `sha256`"),
        (lambda models: models[1].pop("file"), "name both"),
        (lambda models: forbid(models, "dav2"), "no indoor network"),
        (lambda models: forbid(models, "moge2"), "no metric network"),
    ],
)
def test_what_must_be_there(change: Callable[[Any], object], words: str, tmp_path: Path) -> None:
    assert words in _refusal(_with(change), tmp_path)


@pytest.mark.parametrize("content", [None, b"models: []\n"], ids=["missing", "damaged"])
def test_the_commands_say_that_the_installation_is_damaged(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(weights_folder(), tmp_path / "weights")
    path = tmp_path / "weights" / "registry.yaml"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr("prv2cli.hub.resolve.weights_folder", lambda: path.parent)
    _entries.cache_clear()
    for arguments in (["models", "list"], ["refine", os.devnull, "-m", "lite"]):
        assert app._run(arguments, debug=False) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert len(err.splitlines()) == 1
        assert err.startswith(f"error: {path}: ")
        assert err.endswith("install prv2cli anew\n")
