"""What README.md and docs/ show can be typed: commands and their flags, and the example in Python."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image

from prv2cli import Refiner
from prv2cli.cli.app import app

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"^(?:\$ .*?|    )\bprv2 (models \w+|\w+)(.*)$", re.MULTILINE)
FLAG = re.compile(r"(?<![\w-])--?[A-Za-z0-9][\w-]*")


def _flags() -> dict[str, set[str]]:
    group: Any = typer.main.get_command(app)
    commands = dict(group.commands)
    commands |= {f"models {name}": one for name, one in commands.pop("models").commands.items()}
    return {
        name: {"-h", "--help", "--debug", "-0"}
        | {flag for p in one.params for flag in (*p.opts, *p.secondary_opts)}
        for name, one in commands.items()
    }


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_flag_that_is_shown_exists(path: Path) -> None:
    known = _flags()
    for name, rest in COMMAND.findall(path.read_text("utf-8")):
        shown = re.split(r"\s#|\s[|>]\s", rest)[0]
        assert set(FLAG.findall(shown)) <= known[name], f"prv2 {name}{rest}"


def test_commands_are_found_at_all() -> None:
    assert len(COMMAND.findall(DOCUMENTS[0].read_text("utf-8"))) > 30


def test_the_example_in_python(
    refiner: Refiner, photograph: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Typed as it stands: upright, whatever the camera did."""
    example = re.search(
        r"```python\n(import numpy as np\n.*?)```", DOCUMENTS[0].read_text("utf-8"), re.DOTALL
    )
    assert example is not None
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photograph[:90, :140]).save(tmp_path / "photo.jpg", exif=exif)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Refiner, "from_pretrained", lambda *_, **__: refiner)
    names: dict[str, Any] = {}
    exec(example[1], names)
    assert names["result"].depth.shape == (140, 90)
