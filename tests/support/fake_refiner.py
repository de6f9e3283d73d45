"""A refiner that takes no time and no torch: what a batch does around it is what is tested.

python fake_refiner.py FOLDER OUT SECONDS      a whole batch in a process of its own, to be killed
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from prv2cli.depth_files.ours.encoding import Encoding
from prv2cli.errors import InputError
from prv2cli.jobs.batch import BatchSettings
from prv2cli.jobs.claims import Claims
from prv2cli.jobs.engines.local import run_batch
from prv2cli.jobs.planning.find import find_photographs
from prv2cli.jobs.planning.outputs import plan
from prv2cli.refine.request import RefineRequest, Subject, Tiling


class FakeDepth(SimpleNamespace):
    """A result, which gives nothing back when it is closed."""

    def __enter__(self) -> FakeDepth:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing lies on disk."""


class FakeRefiner:
    """Depth = 1 + mean colour / 100, or a given map's mean. Refuses photographs whose first pixel is pure red, dies
    of pure blue.
    """

    def __init__(self, seconds: float = 0.0, sha256: str = "a" * 64) -> None:
        self.seconds, self.calls = seconds, 0
        self.config = SimpleNamespace(depth_space="normalised-log")
        self.groups: list[int] = []  # how many photographs came together
        self.name, self.dtype, self.bundle = "fake", "float32", None
        self.checkpoint = SimpleNamespace(sha256=sha256)
        self.coarse = SimpleNamespace(name="none", identity="b" * 64)
        self.device = SimpleNamespace(type="cpu")
        self.coarse_peak = 0

    def tiles_at_once(self, batch_size: int = 0) -> int:
        return batch_size or 1

    def check(self, request: RefineRequest) -> None:
        """Everything can be done."""

    def plan(self, height: int, width: int, tiling: Tiling) -> Any:
        return SimpleNamespace(tiles=["one"])

    def run(self, subjects: list[Subject], request: RefineRequest, progress: Any = None) -> list[Any]:
        if len(subjects) > 1:
            self.groups.append(len(subjects))
        results = [self.refine(subject.rgb, request) for subject in subjects]
        for subject, result in zip(subjects, results, strict=True):
            if subject.given is not None:
                result.depth[:] = np.nanmean(subject.given.values)
        return results

    def refine(self, rgb: Any, request: RefineRequest) -> Any:
        self.calls += 1
        time.sleep(self.seconds)
        if tuple(rgb[0, 0]) == (255, 0, 0):
            raise InputError("this one is red")
        if tuple(rgb[0, 0]) == (0, 0, 255):
            os.kill(os.getpid(), signal.SIGKILL)
        depth = (1 + rgb.mean(axis=2) / 100).astype(np.float32)
        return FakeDepth(
            depth=depth,
            confidence=np.ones_like(depth) if request.confidence else None,
            unit="metre",
            kind="depth",
            affine=False,
            tiling="one",
            tta="flip" if request.flip else None,
            tiles=1,
            seam=0.0,
            masked=0,
            filled=0,
            focal_px=request.focal_px,
            focal_origin="given" if request.focal_px else None,
            device="cpu",
            precision="float32",
            seconds={"tiles": self.seconds},
        )


def load_slow(*_: object) -> FakeRefiner:
    """In place of ray_engine.load_refiner: the workers of a cluster import it by its name."""
    return FakeRefiner(0.2)


def main(folder: str, out: str, seconds: str) -> None:
    found = find_photographs([Path(folder)], recursive=True, leave_out=Path(out))
    jobs = plan(found.photographs, Path(out), "{stem}", ".tif").jobs
    refiner: Any = FakeRefiner(float(seconds))
    for outcome in run_batch(jobs, refiner, BatchSettings(Encoding("tiff")), Claims(Path(out))):
        print(outcome.state, outcome.job.target, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
