"""The wheel in an environment that holds it and what it declares, nothing else: does it refine the demo photograph?

    make wheel, make dist      or      python tests/wheel/run.py WHEEL|SDIST

From an sdist its wheel is built first, out of nothing but what it holds.

The environment is a new one. What the wheel declares, and what that declares in turn, is not downloaded (torch alone
brings gigabytes) but linked file by file from the environment that runs this: the very distributions, and no other, so
that an import which nobody declared fails. Then pip installs the wheel and checks all versions, and `prv2` works in
another folder. What it does not show is that an index has all of it; `make install` does.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

DEMO = Path(__file__).parents[2] / "docs" / "images" / "demo.jpg"


def main(built: Path) -> None:
    """Raises CalledProcessError or AssertionError where what was built does not work."""
    with tempfile.TemporaryDirectory(prefix="try-", dir=built.parent) as folder:
        wheel = built if built.suffix == ".whl" else _wheel_of(built, Path(folder) / "built")
        environment = Path(folder) / "environment"  # on a disk where files can be linked
        venv.create(environment, symlinks=os.name != "nt")
        scripts = environment / ("Scripts" if os.name == "nt" else "bin")
        python = scripts / "python"
        site = Path(_run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
        needed = sorted(_needed(wheel))
        for name in needed:
            _link(distribution(name), site)
        pip = (sys.executable, "-m", "pip", "--python", python)
        _run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel)
        print(_run(*pip, "check").strip())
        elsewhere = Path(folder) / "elsewhere"
        elsewhere.mkdir()
        where = _run(python, "-c", "import prv2cli; print(prv2cli.__file__)", cwd=elsewhere).strip()
        assert Path(where).is_relative_to(environment), where
        _refine(scripts / "prv2", elsewhere)
    print(f"{built.name} works beside the {len(needed)} distributions that it needs: {', '.join(needed)}")


def _wheel_of(sources: Path, folder: Path) -> Path:
    """Build the wheel of an sdist, with the hatchling of this environment."""
    options = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir")
    _run(sys.executable, "-m", "pip", "wheel", *options, folder, sources)
    (wheel,) = folder.glob("*.whl")
    return wheel


def _needed(wheel: Path) -> set[str]:
    """The names of all distributions that a wheel needs, directly or not, without those of its extras."""
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(path).decode())
    todo = [(line, "") for line in metadata.get_all("Requires-Dist", [])]
    seen: set[tuple[str, str]] = set()
    while todo:
        line, extra = todo.pop()
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for wanted in {"", *requirement.extras}:
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                todo += [(line, wanted) for line in distribution(name).requires or []]
    return {name for name, _ in seen}


def _link(found: Distribution, site: Path) -> None:
    """Put a distribution's modules in another environment; its scripts are not wanted there."""
    for path, source in _files(found):
        target = site / path
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except OSError:  # another disk, or one without links
            shutil.copy2(source, target)


def _files(found: Distribution) -> Iterator[tuple[Path, Path]]:
    for file in found.files or []:
        source = Path(str(found.locate_file(file)))
        if ".." not in file.parts and source.is_file():
            yield Path(str(file)), source


def _refine(prv2: Path, folder: Path) -> None:
    """The demo photograph, with the embedded models, to a depth map of its size; and both to a page."""
    _run(prv2, "refine", DEMO, "--coarse", "lite", "--offline", "-o", "depth.tif", cwd=folder)
    depth = json.loads(_run(prv2, "info", "depth.tif", "--json", cwd=folder))
    with Image.open(DEMO) as photo:
        assert (depth["width"], depth["height"]) == photo.size, depth
    _run(prv2, "view", DEMO, "depth.tif", "-o", "page.html", cwd=folder)
    assert (folder / "page.html").read_text("utf-8").endswith("</html>\n")


def _run(*command: str | Path, cwd: Path | None = None) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
