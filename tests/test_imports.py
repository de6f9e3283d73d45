"""The house: imports go downwards only, those inside functions too; no circles; light faces; short files."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "prv2cli"
LONGEST = 400  # lines
MOST_FILES = 9  # of a package, beside its __init__ and the packages in it

# Who is above whom. Those on one line stand beside each other and do not import each other.
LEVELS = """
__main__
cli
bench jobs training
refine
coarse
checkpoints evaluation export
model hub restoration datasets view
photo depth_files resampling tiling scenes settings
files machine extras
errors choices
__init__
version
"""
LEVEL = {room: level for level, line in enumerate(reversed(LEVELS.split("\n"))) for room in line.split()}

# `import prv2cli` gives the Refiner when it is asked for.
ALLOWED = {("__init__", "refine")}


def _name(path: Path) -> str:
    """prv2cli/photo/read.py -> photo.read; a package has the name of its folder, prv2cli itself __init__."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def _target(dotted: str) -> str:
    """The module of ours that an absolute name leads to: the name may go on with what is in the module."""
    name = dotted.removeprefix("prv2cli").lstrip(".")
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name or "__init__"


def _imported(tree: ast.AST, *, types_too: bool) -> Iterator[str]:
    """Modules of ours that a file imports anywhere; with `types_too` also those for the type checker alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not types_too:
            continue
        if isinstance(node, ast.Import):
            yield from (_target(a.name) for a in node.names if a.name.split(".")[0] == "prv2cli")
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute here"
            if (node.module or "").split(".")[0] == "prv2cli":
                yield from (_target(f"{node.module}.{alias.name}") for alias in node.names)
        yield from _imported(node, types_too=types_too)


def _imports(*, types_too: bool) -> dict[str, set[str]]:
    return {
        name: set(_imported(ast.parse(path.read_text("utf-8")), types_too=types_too)) - {name}
        for name, path in MODULES.items()
    }


def _room(module: str) -> str:
    return module.partition(".")[0]


def test_every_room_has_its_level() -> None:
    assert {_room(name) for name in MODULES} <= set(LEVEL)


def test_imports_go_downwards() -> None:
    up = {
        (name, target)
        for name, targets in _imports(types_too=True).items()
        for target in targets
        if _room(name) != _room(target)
        and LEVEL[_room(target)] >= LEVEL[_room(name)]
        and (_room(name), _room(target)) not in ALLOWED
    }
    assert sorted(up) == [], "these run up or across"


def test_there_are_no_circles() -> None:
    """Of modules, by all that runs: `if TYPE_CHECKING` does not."""
    graph = {
        name: {target for target in targets if (_room(name), _room(target)) not in ALLOWED}
        for name, targets in _imports(types_too=False).items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" > ".join(error.args[1]))


def test_the_faces_of_packages_are_light() -> None:
    """An __init__ imports the version and the standard library at most; what it offers comes when it is asked for."""
    heavy = set()
    for name, path in MODULES.items():
        if path.name != "__init__.py":
            continue
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
                if not set(modules) <= {"__future__", "typing", "prv2cli.version"}:
                    heavy.add(name)
    assert heavy == set()


def test_files_are_short() -> None:
    long = {n for n, path in MODULES.items() if len(path.read_text("utf-8").splitlines()) > LONGEST}
    assert long == set()


def test_packages_are_small() -> None:
    """What is looked for is found at a glance."""
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    counts = {str(f.relative_to(PACKAGE)): len([*f.glob("*.py")]) - 1 for f in folders}
    assert {name: count for name, count in counts.items() if count > MOST_FILES} == {}
