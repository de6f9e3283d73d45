"""Many photographs: decoding, device work and encoding overlap, and every file ends done, skipped or failed.

    Job ─ claim ─ decode (a thread) ─ refine (this thread) ─ encode (a thread) ─ Outcome

At most a few photographs are in memory at a time, whatever their number. A finished file is left alone only if it
says that it was made from the same bytes with the same settings; nothing else about a run is remembered anywhere.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from prv2cli import __version__
from prv2cli.atomic import remove_leftovers
from prv2cli.claims import Claims
from prv2cli.depth_files import read_depth_metadata
from prv2cli.errors import DiskFullError, Prv2Error
from prv2cli.hub_cache import hash_file
from prv2cli.images import MAX_PIXELS_DEFAULT, Photo, read_photo
from prv2cli.pipeline import Encoding, describe, summary, write
from prv2cli.workers import Worker, ahead

if TYPE_CHECKING:
    from prv2cli.inference import Depth, Refiner

AHEAD = 2  # photographs decoded and waiting, and results waiting to be encoded
WAIT_SECONDS = 1.0  # between looks at the files that another process has claimed
State = Literal["done", "skipped", "failed"]


@dataclass(frozen=True)
class Job:
    """One photograph and where its depth goes."""

    source: Path
    target: Path


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
    """Everything that decides what is in an output, beside the photograph and the models."""

    encoding: Encoding
    tiling: dict[str, Any] = field(default_factory=dict)
    focal_px: float | None = None
    max_pixels: int = MAX_PIXELS_DEFAULT
    overwrite: bool = False

    def digest(self, refiner: Refiner) -> str:
        """Identity of these settings with these models: a file that carries it needs no second run."""
        decisive = {
            "version": __version__,
            "model": refiner.checkpoint.sha256,
            "coarse": refiner.coarse.identity if refiner.coarse else None,
            "precision": str(refiner.dtype),
            "encoding": asdict(self.encoding),
            "tiling": self.tiling,
            "focal_px": self.focal_px,
        }
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


class Engine(Protocol):
    """Who does the jobs: LocalEngine in this process, ray_engine.RayEngine in those of a cluster."""

    def run(self, jobs: list[Job]) -> Generator[Outcome, None, list[Job]]:
        """One round over the jobs, an outcome for each that has ended; returns those that another process works on."""
        ...

    def close(self) -> None:
        """Stop the work, remove what was being written, give the claims back."""
        ...


def run_batch(
    jobs: Iterable[Job], refiner: Refiner, settings: BatchSettings, claims: Claims
) -> Generator[Outcome, None, None]:
    """Do in this process the jobs that are not done; see run_on()."""
    remove_leftovers(claims.root)
    yield from run_on(LocalEngine(refiner, settings, claims), jobs)


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


@dataclass
class _Work:
    """A job on its way."""

    job: Job
    started: float = field(default_factory=time.perf_counter)
    seconds: dict[str, float] = field(default_factory=dict)
    photo: Photo | None = None


class LocalEngine:
    """The jobs one after another with one refiner, their parts overlapping in three threads."""

    def __init__(self, refiner: Refiner, settings: BatchSettings, claims: Claims) -> None:
        self.refiner, self.settings, self.claims = refiner, settings, claims
        self.digest = settings.digest(refiner)
        self.decoder, self.encoder = Worker("decode"), Worker("encode")

    def close(self) -> None:
        self.decoder.stop()
        self.encoder.stop()
        self.claims.release_all()

    def run(self, jobs: list[Job]) -> Generator[Outcome, None, list[Job]]:
        """One round over the jobs; returns those that another process works on."""
        elsewhere: list[Job] = []
        encoding: deque[tuple[_Work, Future[Outcome]]] = deque()
        for work, decoded in ahead(jobs, self._submit, AHEAD):
            try:
                photo = decoded.result()
                while encoding and (len(encoding) >= AHEAD or encoding[0][1].done()):
                    yield self._encoded(*encoding.popleft())
                result = self._refine(work, photo)
                encoding.append((work, self.encoder.submit(partial(self._encode, work, photo, result))))
            except _Elsewhere:  # noqa: PERF203 - one bad file must not end the batch
                elsewhere.append(work.job)
            except _Done:
                yield Outcome(work.job, "skipped", _report(work, "skipped"))
            except Exception as error:
                yield self._failed(work, error)
        for item in encoding:
            yield self._encoded(*item)
        return elsewhere

    def _submit(self, job: Job) -> tuple[_Work, Future[Photo]]:
        work = _Work(job)
        return work, self.decoder.submit(partial(self._decode, work))

    def _decode(self, work: _Work) -> Photo:
        if not self.claims.acquire(work.job.target):
            raise _Elsewhere
        start = time.perf_counter()
        if not self.settings.overwrite and self._is_done(work.job):
            self.claims.release(work.job.target)
            raise _Done
        photo = read_photo(work.job.source, max_pixels=self.settings.max_pixels)
        work.seconds["decode"] = time.perf_counter() - start
        return photo

    def _is_done(self, job: Job) -> bool:
        """Whether the target says that it was made from these bytes with these settings."""
        if not job.target.exists():
            return False
        with suppress(Prv2Error, OSError):
            found = read_depth_metadata(job.target)
            if found is not None and found.settings_sha256 == self.digest:
                return found.source_sha256 == hash_file(job.source)
        return False

    def _refine(self, work: _Work, photo: Photo) -> Depth:
        settings = self.settings
        focal = settings.focal_px or photo.focal_px
        result = self.refiner.refine(photo.rgb, focal_px=focal, **settings.tiling)
        work.seconds |= result.seconds
        return result

    def _encode(self, work: _Work, photo: Photo, result: Depth) -> Outcome:
        start = time.perf_counter()
        metadata = describe(self.refiner, result, photo, focal_px=self.settings.focal_px)
        metadata = replace(metadata, settings_sha256=self.digest)
        work.job.target.parent.mkdir(parents=True, exist_ok=True)
        report = write(work.job.target, result.depth, metadata, self.settings.encoding)
        self.claims.release(work.job.target)
        work.seconds["encode"] = time.perf_counter() - start
        seconds = {**work.seconds, "total": time.perf_counter() - work.started}
        source, target = str(work.job.source), str(work.job.target)
        found = summary(source, target, result, photo, metadata, report, seconds)
        return Outcome(work.job, "done", {"state": "done", **found, "error": None})

    def _encoded(self, work: _Work, future: Future[Outcome]) -> Outcome:
        try:
            return future.result()
        except Exception as error:
            return self._failed(work, error)

    def _failed(self, work: _Work, error: Exception) -> Outcome:
        self.claims.release(work.job.target)
        if isinstance(error, DiskFullError):
            raise error
        known = isinstance(error, Prv2Error)
        text = str(error) if known else f"{work.job.source}: {type(error).__name__}: {error}"
        return Outcome(work.job, "failed", _report(work, "failed", text))


def failed(job: Job, error: str) -> Outcome:
    """The outcome of a job that could not even be begun, or not be ended."""
    return Outcome(job, "failed", _report(_Work(job), "failed", error))


class _Elsewhere(Exception):
    """Another process has claimed the job."""


class _Done(Exception):
    """Nothing is to be done."""


def _report(work: _Work, state: State, error: str | None = None) -> dict[str, Any]:
    seconds = {**work.seconds, "total": time.perf_counter() - work.started}
    return {
        "state": state,
        "input": str(work.job.source),
        "output": str(work.job.target),
        "error": error,
        "seconds": {part: round(value, 3) for part, value in seconds.items()},
    }
