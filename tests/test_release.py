"""What surrounds a release: the site's pages, the citation, and the checks before anything is built."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import prv2cli

ROOT = Path(__file__).parents[1]


# --- the site ---------------------------------------------------------------------------------------------


def _pages(nav: Any) -> set[str]:
    """All files that a navigation of MkDocs names."""
    if isinstance(nav, str):
        return {nav}
    children = nav if isinstance(nav, list) else nav.values()
    return {page for child in children for page in _pages(child)}


def _hook() -> Any:
    pytest.importorskip("mkdocs")
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / ".ci" / "site_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_of_docs_is_in_the_navigation() -> None:
    nav = _pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"])
    docs = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert docs <= nav, "add it to mkdocs.yml"
    made = nav - docs
    assert made == {"readme.md", "commands.md", "changelog.md", "contributing.md"} | {
        f"models/{path.name}" for path in (ROOT / "weights").glob("*.md")
    }


def test_links_between_files_become_links_between_pages() -> None:
    hook = _hook()

    def at(page: str, link: str) -> str:
        return str(hook.on_page_markdown(f"[x]({link})", SimpleNamespace(file=SimpleNamespace(src_uri=page))))

    assert at("index.md", "../README.md#use") == "[x](readme.md#use)"
    assert at("index.md", "../weights/lite.md") == "[x](models/lite.md)"
    assert at("readme.md", "docs/images/overview.jpg") == "[x](images/overview.jpg)"
    assert at("models/lite.md", "../docs/data.md") == "[x](../data.md)"
    assert at("data.md", "https://arxiv.org/abs/1") == "[x](https://arxiv.org/abs/1)"
    assert at("data.md", "../configs/lite.yaml") == "[x](../configs/lite.yaml)"  # MkDocs complains of it


def test_the_site_has_every_command() -> None:
    text = _hook()._commands()
    for command in ("refine", "batch", "train", "eval", "models convert"):
        assert f"prv2 {command}`" in text


# --- the citation -----------------------------------------------------------------------------------------


def test_the_citation_is_complete() -> None:
    """What cffconvert asks for, and the version and its date as the package and CHANGELOG.md have them."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "license", "references"} <= set(citation)
    for entry in (citation, *citation["references"]):
        assert all({"name"} <= set(a) or {"family-names", "given-names"} <= set(a) for a in entry["authors"])
    assert all({"type", "title"} <= set(entry) for entry in citation["references"])
    assert citation["version"] == prv2cli.__version__
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8").splitlines()
    assert f"## [{citation['version']}] - {citation['date-released']}" in changes
    assert changes.count("## [Unreleased]") == 1


# --- the checks before a release ---------------------------------------------------------------------------


CITED = "version: 1.2.3\ndate-released: 2030-01-02\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with what the checks look at, committed and tagged."""
    if sys.platform == "win32" or shutil.which("git") is None:
        pytest.skip("the checks are a shell script and ask git")
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/release", tmp_path / ".ci/release")
    (tmp_path / "CITATION.cff").write_text(CITED)
    (tmp_path / "prv2cli").mkdir()
    (tmp_path / "prv2cli/version.py").write_text('"""The version."""\n\n__version__ = "1.2.3"\n')
    (tmp_path / "CHANGELOG.md").write_text("## [Unreleased]\n\n## [1.2.3] - 2030-01-02\n")
    _git(tmp_path, "init", "--quiet")
    _commit(tmp_path)
    _git(tmp_path, "tag", "v1.2.3")
    return tmp_path


def _git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def _commit(folder: Path) -> None:
    _git(folder, "add", "--all")
    _git(folder, "commit", "--quiet", "--message", "all")


def _check(folder: Path, step: str = "check") -> tuple[int, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["bash", str(folder / ".ci/release"), step]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    return done.returncode, done.stdout + done.stderr


def test_a_tagged_commit_with_its_changes_is_ready(checkout: Path) -> None:
    assert _check(checkout) == (0, "release: 1.2.3 is ready\n")
    assert _check(checkout, "everything") == (1, "release: say check, build or publish\n")


def test_what_is_not_ready_is_named(checkout: Path) -> None:
    (checkout / "new").write_text("")
    assert "not committed" in _check(checkout)[1]
    _commit(checkout)
    assert "not tagged v1.2.3" in _check(checkout, "build")[1]
    (checkout / "CHANGELOG.md").write_text("## [Unreleased]\n")
    _commit(checkout)
    _git(checkout, "tag", "--force", "v1.2.3")
    assert _check(checkout) == (1, "release: CHANGELOG.md has no heading '## [1.2.3] - <date>'\n")
    (checkout / "CHANGELOG.md").write_text("## [1.2.3] - 2030-01-02\n")
    (checkout / "CITATION.cff").write_text('version: "1.2.2"\n')
    _commit(checkout)
    _git(checkout, "tag", "--force", "v1.2.3")
    assert "CITATION.cff has version 1.2.2, not 1.2.3" in _check(checkout)[1]
    (checkout / "CITATION.cff").write_text(CITED.replace("2030", "2029"))
    _commit(checkout)
    _git(checkout, "tag", "--force", "v1.2.3")
    assert "CITATION.cff says released 2029-01-02, CHANGELOG.md another day" in _check(checkout)[1]


# --- the demo ---------------------------------------------------------------------------------------------


def test_the_drawn_photograph_and_its_coarse_map_belong_together() -> None:
    folder = ROOT / "docs" / "images"
    with Image.open(folder / "rendering.jpg") as photo, Image.open(folder / "rendering_coarse.png") as coarse:
        assert photo.size == (8 * coarse.width, 8 * coarse.height) == (1536, 1024)
        millimetres = np.asarray(coarse)
    assert millimetres.dtype in (np.uint16, np.int32)  # of 16 bits, by old and new Pillow
    assert millimetres.min() > 1000
    assert millimetres.max() < 20_000
    assert (folder / "rendering.jpg").stat().st_size < 600_000


def test_what_the_demo_writes_is_ignored_and_cleaned() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    recipe = makefile.partition("\ndemo:")[2].partition("\n\n")[0]
    written = set(re.findall(r"(?:-o|--compare) (\S+)", recipe))
    assert len(written) == 4
    cleaned = makefile.partition("\nclean:")[2]
    assert all(name.startswith("demo_") and name in cleaned for name in written)
    assert "/demo_*" in (ROOT / ".gitignore").read_text("utf-8").splitlines()
