"""`prv2 view`: what it writes where, what it says, what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
from pages import data_of, write_case
from typer.testing import CliRunner

from prv2cli.cli.commands import view
from prv2cli.errors import InputError, OutputError, UsageError
from prv2cli.view.assemble import is_page

app = typer.Typer()
app.command()(view.view)


def run(*arguments: object, stdin: bytes = b"") -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)


@pytest.fixture
def case(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, Path]:
    monkeypatch.chdir(folder)
    return write_case(folder)


def test_a_page_of_a_photograph_and_two_maps(case: tuple[Path, Path, Path], folder: Path) -> None:
    done = run(*case, "-o", folder / "page.html")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr.endswith("page.html: photo.jpg with 2 depth maps, 0.1 MB; open it in a browser\n")
    assert "reduced" not in done.stderr
    found = data_of((folder / "page.html").read_bytes())
    assert found["photo"]["size"] == found["photo"]["shown"] == [240, 160], "upright"
    assert [depth["name"] for depth in found["depths"]] == ["fine.npy", "coarse.png"]


def test_what_is_reduced_is_said(case: tuple[Path, Path, Path], folder: Path) -> None:
    done = run(*case, "-o", "page.html", "--megapixels", 0.01)
    assert done.exit_code == 0
    told = done.stderr.replace("\n", " ")
    assert "photo.jpg: 240x160 reduced to 122x81 for the page (--megapixels)" in told
    assert "fine.npy: 240x160 reduced to 122x81" in told
    assert "coarse.png" not in told
    assert run(*case, "-o", "page.html", "--megapixels", 0.01, "-q").stderr == ""


def test_the_name_that_nobody_gave(case: tuple[Path, Path, Path], folder: Path) -> None:
    assert run(*case[:2]).exit_code == 0
    assert is_page(folder / "photo_view.html")
    first = (folder / "photo_view.html").read_bytes()
    assert run(*case).exit_code == 0, "a page of ours is replaced"
    assert (folder / "photo_view.html").read_bytes() != first


@pytest.mark.parametrize("name", ["photo_view.html", "mine.htm"])
def test_a_page_of_others_stays(case: tuple[Path, Path, Path], folder: Path, name: str) -> None:
    (folder / name).write_text("<title>mine</title>")
    output = [] if name == "photo_view.html" else ["-o", name]
    refused = run(*case, *output)
    assert isinstance(refused.exception, OutputError)
    assert "--overwrite" in str(refused.exception)
    assert (folder / name).read_text() == "<title>mine</title>"
    assert run(*case, *output, "--overwrite").exit_code == 0
    assert is_page(folder / name)
    kept = run(*case, *output, "--no-overwrite")
    assert isinstance(kept.exception, OutputError)


def test_no_input_is_replaced(case: tuple[Path, Path, Path], folder: Path) -> None:
    before = case[1].read_bytes()
    for place in case[1:]:
        link = folder / "link.html"
        link.unlink(missing_ok=True)
        link.hardlink_to(place)
        refused = run(*case, "-o", link, "--overwrite")
        assert isinstance(refused.exception, UsageError)
        assert "choose another name" in str(refused.exception)
    assert case[1].read_bytes() == before


@pytest.mark.parametrize("name", ["out.tif", "out", "fine.npy"])
def test_a_page_is_called_html(case: tuple[Path, Path, Path], name: str) -> None:
    refused = run(*case, "-o", name)
    assert isinstance(refused.exception, UsageError)
    assert ".html" in str(refused.exception)


def test_streams(case: tuple[Path, Path, Path], folder: Path) -> None:
    photo, fine, _ = case
    done = run("-", fine, "-o", "-", stdin=photo.read_bytes())
    assert done.exit_code == 0
    found = data_of(done.stdout_bytes)
    assert (found["photo"]["name"], found["depths"][0]["name"]) == ("<stdin>", "fine.npy")
    done = run(photo, "-", "-o", "page.html", stdin=fine.read_bytes())
    assert done.exit_code == 0
    refused = run("-", "-", "-o", "page.html", stdin=fine.read_bytes())
    assert isinstance(refused.exception, UsageError)


def test_what_cannot_be_shown(case: tuple[Path, Path, Path], folder: Path) -> None:
    photo, fine, _ = case
    for call, error, said in (
        ([photo, "none.tif"], InputError, "none.tif: no such file"),
        ([photo, photo], InputError, "photo.jpg"),
        ([photo, folder], InputError, "is a folder"),
        ([fine, fine], InputError, "fine.npy"),
        (["none.jpg", fine], InputError, "none.jpg: no such file"),
        ([photo, fine, "-o", folder / "no" / "page.html"], OutputError, "mkdir"),
        ([photo, fine, "--scale", 1, "--relative"], UsageError, "exclude each other"),
    ):
        refused = run(*call)
        assert isinstance(refused.exception, error), call
        assert said in str(refused.exception), call
    assert not list(folder.glob("*.html"))
