"""The package as people get it: one version, light imports, and a wheel that has its weights inside."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import zipfile
from email.parser import Parser
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import prv2cli
from prv2cli.hub.registry import DEFAULT_COARSE, DEFAULT_REFINER
from prv2cli.hub.resolve import registry, resolve, weights_folder

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "prv2cli").rglob("*.py"))


def _python(code: str, *path: Path, cwd: Path) -> str:
    """What a fresh interpreter prints that sees `path` before everything else."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, env=environment, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


# --- names and imports ------------------------------------------------------------------------------------


def test_exported_names_exist_and_nothing_else_is_promised() -> None:
    assert prv2cli.__all__ == ["Depth", "Refiner", "__version__"]
    for name in prv2cli.__all__:
        assert getattr(prv2cli, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Refinr'"):
        prv2cli.Refinr  # noqa: B018


def test_importing_the_package_is_light(tmp_path: Path) -> None:
    code = (
        "import sys, prv2cli, prv2cli.hub.resolve, prv2cli.model.config, prv2cli.machine.devices;"
        "import prv2cli.tiling.plan, prv2cli.depth_files.read;"
        "print({'torch', 'timm'} & set(sys.modules))"
    )
    assert _python(code, ROOT, cwd=tmp_path) == "set()"


def test_the_version_is_written_once() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", prv2cli.__version__)
    assigned = [
        path for path in SOURCES if re.search(r"^__version__\s*=", path.read_text("utf-8"), re.MULTILINE)
    ]
    assert assigned == [ROOT / "prv2cli" / "version.py"]
    settings = (ROOT / "pyproject.toml").read_text("utf-8")
    assert 'dynamic = ["version"]' in settings
    assert not re.search(r"^version\s*=", settings, re.MULTILINE)


def test_the_embedded_models_are_files_of_ours() -> None:
    embedded = {name: entry for name, entry in registry().items() if entry.embedded}
    assert {DEFAULT_REFINER, DEFAULT_COARSE} == set(embedded)
    for name, entry in embedded.items():
        assert entry.file is not None
        assert resolve(name).path == weights_folder() / entry.file


# --- the wheel --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--no-cache-dir", "--quiet"]
    command = [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def _metadata(unpacked: Path) -> dict[str, list[str]]:
    (path,) = unpacked.glob("*.dist-info/METADATA")
    message = Parser().parsestr(path.read_text("utf-8"))
    return {key: message.get_all(key, []) for key in message}


def test_the_wheel_has_the_version_and_the_program(wheel: Path, unpacked: Path) -> None:
    assert wheel.name == f"prv2cli-{prv2cli.__version__}-py3-none-any.whl"
    metadata = _metadata(unpacked)
    assert metadata["Version"] == [prv2cli.__version__]
    assert metadata["License-File"] == ["LICENSE"]
    (scripts,) = unpacked.glob("*.dist-info/entry_points.txt")
    assert "prv2 = prv2cli.cli.app:main" in scripts.read_text("utf-8")


def test_the_wheel_holds_the_package_and_the_weights_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {path.relative_to(ROOT).as_posix() for path in SOURCES} <= names
    weights = {f"prv2cli/weights/{entry.file}" for entry in registry().values() if entry.embedded}
    assert weights | {"prv2cli/weights/registry.yaml"} <= names
    page = {path.relative_to(ROOT).as_posix() for path in (ROOT / "prv2cli" / "view" / "page").iterdir()}
    assert {f"prv2cli/view/page/{name}" for name in ("page.html", "style.css", "main.js")} <= page <= names
    assert all(re.match(r"prv2cli(-[^/]+\.dist-info)?/", name) for name in names)
    assert not [name for name in names if "__pycache__" in name or name.endswith(".prv2tmp")]


def test_an_unpacked_wheel_finds_its_own_weights(unpacked: Path, tmp_path: Path) -> None:
    code = """
from prv2cli import __version__
from prv2cli.hub.registry import DEFAULT_COARSE, DEFAULT_REFINER
from prv2cli.hub.resolve import registry, resolve, weights_folder
print(__version__, resolve('lite').path, resolve('refiner-s').path)
"""
    version, *paths = _python(code, unpacked, cwd=tmp_path).split()
    assert version == prv2cli.__version__
    for path, name in zip(paths, ("lite", "refiner-s"), strict=True):
        assert Path(path).parent == unpacked / "prv2cli" / "weights"
        assert Path(path).read_bytes() == resolve(name).path.read_bytes()


def test_an_editable_install_finds_the_weights_of_the_checkout(tmp_path: Path) -> None:
    """An editable wheel is a .pth file and copies of the forced files: the package itself stays where it is."""
    built, site = tmp_path / "built", tmp_path / "site"
    built.mkdir()
    _python(f"from hatchling.build import build_editable; build_editable({str(built)!r})", cwd=ROOT)
    (wheel,) = built.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    code = (
        f"import site; site.addsitedir({str(site)!r}); "
        "from prv2cli.hub.resolve import resolve; print(resolve('lite').path)"
    )
    assert Path(_python(code, cwd=tmp_path)) == ROOT / "weights" / "lite.safetensors"


# --- what the wheel asks for ------------------------------------------------------------------------------

# timm needs torchvision and installs the build that goes with torch; scikit-image needs scipy.
TAKEN_FROM_OTHERS = {"torchvision", "scipy"}


def test_every_imported_package_is_declared(unpacked: Path) -> None:
    declared = {_normal(re.split(r"[^\w.-]", line)[0]) for line in _metadata(unpacked)["Requires-Dist"]}
    distributions = packages_distributions()
    for name in sorted(_imported() - TAKEN_FROM_OTHERS):
        candidates = {_normal(distribution) for distribution in distributions.get(name, [name])}
        assert candidates & declared, f"{name} is imported and not declared"


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _imported() -> set[str]:
    """Names of the packages that any module of ours imports, those that extras.py imports by name included."""
    names = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "_import":
                assert isinstance(node.args[0], ast.Constant)
                names.add(str(node.args[0].value).partition(".")[0])
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"prv2cli"}
