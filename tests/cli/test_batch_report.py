"""What a batch tells at its end of the depth maps that it made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prv2cli.cli.batch_report import Teller
from prv2cli.jobs.batch import Job, Outcome


def _told(reports: list[dict[str, Any]], capsys: Any, *, quiet: bool = False) -> list[str]:
    def start() -> Any:
        for number, report in enumerate(reports):
            whole = {"state": "done", "input": f"{number}.jpg", "unit": "metre", "error": None, **report}
            yield Outcome(Job(Path("a"), Path("b")), whole["state"], whole)

    teller = Teller(len(reports), Path("out"), as_json=False, quiet=quiet)
    assert teller.run(start) == 0
    return [line for line in capsys.readouterr().err.splitlines() if "done" not in line]


def test_what_refine_would_say_of_each_is_said_once_of_all(capsys: Any) -> None:
    lines = _told(
        [
            {"clipped": 7, "rounded": 0, "notes": ["9 pixels are sky and have no depth"]},
            {"clipped": 2, "rounded": 3, "notes": []},
            {"unit": "relative", "notes": ["an 8-bit picture"]},
            {"unit": "1/relative"},
            {"state": "skipped"},
        ],
        capsys,
    )
    assert len(lines) == 4
    assert lines[0].startswith("warning: 2 depth maps with pixels that are too large for 16 bits")
    assert lines[1].startswith("warning: 1 depth map with pixels that may be off by more than 1 %")
    assert lines[2] == "2 depth maps without metres, relative"
    assert lines[3] == "0.jpg: 9 pixels are sky and have no depth (notes of 1 more: --json)"


@pytest.mark.parametrize("quiet", [False, True])
def test_nothing_to_say(capsys: Any, quiet: bool) -> None:
    reports = [{}] if not quiet else [{"clipped": 1}]
    assert _told(reports, capsys, quiet=quiet) == []
