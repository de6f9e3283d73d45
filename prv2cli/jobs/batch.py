"""Many photographs: what a job is, how it ends, and what decides whether it is done already.

    Job ─ Engine (engines/local.py in this process, engines/ray.py on a cluster) ─ Outcome: done, skipped or failed

A finished file is left alone only if it says that it was made from the same bytes with the same settings; nothing else
about a run is remembered anywhere.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from prv2cli.depth_files.ours.encoding import Encoding
from prv2cli.errors import UsageError
from prv2cli.files.text import shown
from prv2cli.jobs.companions import Companions
from prv2cli.jobs.given import GivenMaps
from prv2cli.jobs.report import rounded
from prv2cli.model.config import BundleConfig, RefinerConfig
from prv2cli.photo.opening import MAX_PIXELS_DEFAULT
from prv2cli.refine.request import RefineRequest
from prv2cli.refine.tiles.plan import check_tile
from prv2cli.version import __version__

if TYPE_CHECKING:
    from prv2cli.refine.refiner import Refiner

WAIT_SECONDS = 1.0  # between looks at the files that another process has claimed
State = Literal["done", "skipped", "failed"]


@dataclass(frozen=True)
class Job:
    """One photograph, where its depth goes, and the map that is refined where one is given in a file."""

    source: Path
    target: Path
    coarse_depth: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """How a job ended; `report` is what `--json` prints of it."""

    job: Job
    state: State
    report: dict[str, Any]

    @property
    def error(self) -> str | None:
        return self.report.get("error")


@dataclass(frozen=True)
class BatchSettings:
    """Everything that decides what is in an output, beside the photograph and the models.

    Attributes:
        overwrite: make every output again, and replace files that prv2 did not write. verify: read all the pixels of a
            finished output before it counts as such. Neither decides what is in one.
        maps: how given maps are read; None = a coarse network. companions: what lies beside each depth map; one
            without them is made again.
    """

    encoding: Encoding
    request: RefineRequest = field(default_factory=RefineRequest)
    max_pixels: int = MAX_PIXELS_DEFAULT
    overwrite: bool = False
    verify: bool = False
    maps: GivenMaps | None = None
    companions: Companions = field(default_factory=Companions)

    def check_model(self, model: RefinerConfig | BundleConfig) -> None:
        """Refuse a model that could refine none of the photographs, told from its header. Raises UsageError."""
        check_tile(model, self.request.tiling)
        if self.maps is not None and isinstance(model, BundleConfig):
            raise UsageError("--coarse-depth: --model is a bundle and refines its own depth only")

    def digest(self, refiner: Refiner) -> str:
        """Identity of these settings with these models: a file that carries it needs no second run.

        The version is one of them: another one may compute otherwise, and a folder is to be of one kind.
        """
        decisive = {
            "version": __version__,
            "model": refiner.checkpoint.sha256,
            "coarse": refiner.coarse.identity if refiner.coarse else None,
            "precision": str(refiner.dtype),
            "encoding": self.encoding.identity(),
            "tiling": self.request.tiling.identity(),
            "focal_px": self.request.focal_px,
        }
        if self.request.flip:  # only then: what was made before there was a choice is as good as it was
            decisive["tta"] = "flip"
        elif self.request.confidence:  # after a pass at half size nothing counts as settled: another depth
            decisive["compared"] = True
        if self.maps is not None:
            decisive["maps"] = self.maps.identity()
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


class Engine(Protocol):
    """Who does the jobs: local.LocalEngine in this process, ray.RayEngine in those of a cluster."""

    def run(self, jobs: list[Job]) -> Generator[Outcome, None, list[Job]]:
        """One round over the jobs, an outcome for each that has ended; returns those that another process works on."""
        ...

    def close(self) -> None:
        """Stop the work, remove what was being written, give the claims back."""
        ...


def run_on(engine: Engine, jobs: Iterable[Job]) -> Generator[Outcome, None, None]:
    """Do the jobs that are not done, and yield every job's outcome as it ends (not in their order).

    Jobs that another process has claimed are waited for: they are skipped when it has done them and taken over when
    it has died. Closing the generator stops the work and the engine; what was being written is removed.

    Raises:
        DiskFullError: no space is left; the jobs that were not yielded are not done.
    """
    try:
        elsewhere = yield from engine.run(list(jobs))
        while elsewhere:
            time.sleep(WAIT_SECONDS)
            elsewhere = yield from engine.run(elsewhere)
    finally:
        engine.close()


def failed(job: Job, error: str, seconds: dict[str, float] | None = None) -> Outcome:
    """The outcome of a job that could not be begun, or not be ended."""
    return Outcome(job, "failed", report_of(job, "failed", seconds or {}, error))


def unseen(path: Path, why: str) -> Outcome:
    """The outcome of a folder that cannot be looked into: what is in it is not done."""
    report: dict[str, Any] = {
        "state": "failed",
        "input": str(path),
        "output": None,
        "error": f"{shown(path)}: {why}",
        "seconds": {},
    }
    return Outcome(Job(path, path), "failed", report)


def left_out(path: Path, why: str) -> dict[str, Any]:
    """What `--json` prints of what a batch does not work on."""
    return {"state": "left out", "input": str(path), "output": None, "error": None, "why": why}


def report_of(job: Job, state: State, seconds: dict[str, float], error: str | None = None) -> dict[str, Any]:
    """What `--json` prints of a job without a new output."""
    return {
        "state": state,
        "input": str(job.source),
        "output": str(job.target),
        "error": error,
        "seconds": rounded(seconds),
    }
