"""What the static site holds beyond docs/ (`make docs`): README, CHANGELOG and the like, the model cards, all commands.

A hook of MkDocs (mkdocs.yml). The files stay where they are; links between them lead to where the site has them.
"""

from __future__ import annotations

import os
import posixpath
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
PAGES = {  # in the repository -> in the site
    "README.md": "readme.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "weights/refiner-s.md": "models/refiner-s.md",
    "weights/lite.md": "models/lite.md",
}
COMMANDS = "commands.md"
_LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages; MkDocs itself finds those of docs/."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    files.append(File.generated(config, COMMANDS, content=_commands()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links between files of the repository into links between pages of the site."""
    here = page.file.src_uri
    source = {to: of for of, to in PAGES.items()}.get(here, f"docs/{here}")

    def moved(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[2]))
        found = PAGES.get(target, target.removeprefix("docs/") if target.startswith("docs/") else None)
        if found is None:  # not in the site: MkDocs complains
            return match[0]
        return f"{match[1]}{posixpath.relpath(found, posixpath.dirname(here) or '.')}{match[3] or ''})"

    return _LINK.sub(moved, markdown)


def _commands() -> str:
    """Every command with its options, as --help tells them."""
    command = (sys.executable, "-m", "typer", "prv2cli.cli.app", "utils", "docs", "--name", "prv2")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return done.stdout
