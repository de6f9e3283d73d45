"""Completion in a real bash: what --install-completion and --show-completion give, and what a line is completed to."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_PROGRAM = """
import sys
from prv2cli.cli.app import main
try:
    main()
finally:
    heavy = {"torch", "timm", "numpy", "PIL", "tifffile", "safetensors", "yaml", "ray"} & set(sys.modules)
    assert not heavy, heavy
"""

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")


class Shell:
    """A bash with an empty HOME, in a folder with a photograph, that finds the program by its name."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        programs = folder / "bin"
        self.home.mkdir()
        programs.mkdir()
        (programs / "prv2").write_text(
            f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(_PROGRAM)} "$@"\n'
        )
        (programs / "prv2").chmod(0o755)
        (self.home / "photo.jpg").touch()
        (self.home / "photo 2.jpg").touch()
        self._environment = {
            **os.environ,
            "HOME": str(self.home),
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }

    def __call__(self, script: str) -> str:
        """What the script prints. `:` last, so that bash does not make way for the program: it is the shell found."""
        done = subprocess.run(
            ["bash", "--norc", "-c", f"{script}\n:"],
            cwd=self.home,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def complete(self, *words: str) -> list[str]:
        """What bash would offer for the last word; the function registered for prv2 is called as bash calls it."""
        line = " ".join(shlex.quote(word) for word in ("prv2", *words))
        offered = self(
            f"source ~/.bashrc; COMP_WORDS=({line}); COMP_CWORD={len(words)}\n"
            'found=$(complete -p prv2); [[ $found =~ -F\\ ([^ ]+) ]]; "${BASH_REMATCH[1]}" prv2\n'
            'printf "%s\\n" "${COMPREPLY[@]}"'
        )
        return offered.split()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A bash that starts with the completion."""
    shell = Shell(tmp_path_factory.mktemp("shell"))
    assert "bash completion installed" in shell("prv2 --install-completion")
    return shell


def test_what_is_shown_is_what_is_installed(installed: Shell) -> None:
    shown = installed("prv2 --show-completion bash")
    assert shown == installed("prv2 --show-completion")
    files = {path.name: path for path in installed.home.rglob("*") if path.is_file()}
    assert files.keys() == {".bashrc", "prv2.sh", "photo.jpg", "photo 2.jpg"}
    assert files["prv2.sh"].read_text().strip() == shown.strip()


def test_installed_twice_it_is_there_once_and_the_rest_is_kept(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    (shell.home / ".bashrc").write_text("alias a=b\n")
    shell("prv2 --install-completion; prv2 --install-completion")
    lines = (shell.home / ".bashrc").read_text().split("\n")
    assert [line for line in lines if line] == [
        "alias a=b",
        f"source '{shell.home}/.bash_completions/prv2.sh'",
    ]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ([""], ["refine", "batch", "info", "convert", "export", "view", "train", "eval", "bench", "models"]),
        (["re"], ["refine"]),
        (["models", ""], ["list", "show", "pull", "verify", "convert"]),
        (["refine", "--pre"], ["--preview", "--precision"]),
        (["refine", "photo.jpg", "--dty"], ["--dtype"]),
        (["refine", "--dtype", ""], ["uint16", "float32"]),
        (["refine", r"photo\ 2.jpg", "--scene", "i"], ["indoor"]),
        (["batch", "--engine", "r"], ["ray"]),
    ],
)
def test_commands_options_and_choices_are_offered(
    installed: Shell, words: list[str], offered: list[str]
) -> None:
    assert installed.complete(*words) == offered


@pytest.mark.parametrize(
    "words",
    [
        ["refine", "ph"],
        ["refine", ""],
        ["refine", "photo.jpg", "-o", "ph"],
        ["batch", "."],
        ["eval", "--config", ""],
    ],
)
def test_file_names_are_left_to_the_shell(installed: Shell, words: list[str]) -> None:
    assert installed.complete(*words) == []
    assert "-o default" in installed("source ~/.bashrc; complete -p prv2")
