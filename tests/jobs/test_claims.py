"""Claims of several processes on one folder, where those of a single batch do not come: ends, kills, obstacles."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from prv2cli.errors import OutputError
from prv2cli.jobs.claims import FOLDER, Claims

KILLED_WHILE_CLAIMING = """
import json, os, signal, sys
from pathlib import Path
from prv2cli.jobs.claims import Claims

json.dump = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
Claims(Path(sys.argv[1])).acquire(Path(sys.argv[1]) / "a.tif")
"""


def test_one_that_ends_does_not_take_the_folder_from_one_that_begins(tmp_path: Path) -> None:
    def begin_and_end(name: str) -> int:
        claimed = 0
        for _ in range(500):
            claims = Claims(tmp_path)
            claimed += claims.acquire(tmp_path / name)
            claims.release_all()
        return claimed

    with ThreadPoolExecutor(2) as both:
        assert list(both.map(begin_and_end, ["a.tif", "b.tif"])) == [500, 500]


def test_a_process_killed_between_making_and_writing_its_claim_holds_nobody_up(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED_WHILE_CLAIMING, str(tmp_path)], check=False)
    (claim,) = (tmp_path / FOLDER).iterdir()
    assert claim.read_bytes() == b""
    assert not Claims(tmp_path, expires=60).acquire(tmp_path / "a.tif")
    assert Claims(tmp_path, expires=0).acquire(tmp_path / "a.tif")


def test_a_file_in_the_place_of_the_folder_of_claims(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_bytes(b"mine")
    with pytest.raises(OutputError, match="Not a directory"):
        Claims(tmp_path).acquire(tmp_path / "a.tif")
