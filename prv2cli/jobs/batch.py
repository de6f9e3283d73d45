"""Many photographs: decoding, device work and encoding overlap, and every file ends done, skipped or failed.

    Job ─ claim ─ room in memory ─ decode (a thread) ─ refine (this thread) ─ encode (threads) ─ Outcome

At most a few photographs are in memory at a time, whatever their number, and only as many as there is memory for; one
that does not fit even alone is worked on in bands. Small ones that are decoded go through a GPU together. A finished
file is left alone only if it says that it was made from the same bytes with the same settings; nothing else about a
run is remembered anywhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from prv2cli.depth_files.encoding import Encoding, write
from prv2cli.depth_files.read import read_depth_metadata
from prv2cli.depth_files.write import WriteReport
from prv2cli.errors import DiskFullError, Prv2Error
from prv2cli.files.atomic import remove_leftovers
from prv2cli.files.hashing import hash_file
from prv2cli.jobs.admission import MemoryRoom
from prv2cli.jobs.claims import Claims
from prv2cli.jobs.report import describe, summary
from prv2cli.machine.threads import Worker
from prv2cli.photo.header import read_header
from prv2cli.photo.opening import MAX_PIXELS_DEFAULT
from prv2cli.photo.read import Photo, read_photo
from prv2cli.refine.estimate import memory_for
from prv2cli.refine.plan import Tta, check_authors_tiling, flips
from prv2cli.version import __version__

if TYPE_CHECKING:
    from prv2cli.refine.refiner import Refiner
    from prv2cli.refine.result import Depth

AHEAD = 2  # photographs decoded and waiting, and results waiting to be encoded; more where tiles go together
ENCODERS = 4  # beside a GPU, where one would be the slowest part: 12 megapixels take it longer than the GPU
WAIT_SECONDS = 1.0  # between looks at the files that another process has claimed
DECODER_SECONDS = 1.0  # that a batch which ends early waits for what is being decoded
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
    batch_size: int = 0  # tiles at a time, 0 = chosen; decides about float32's rounding and nothing else
    tta: Tta = "auto"  # as in Refiner.refine

    @property
    def flip(self) -> bool:
        """Whether the mirrored photographs are refined too."""
        return flips(self.tta, confidence=False)

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
        if self.flip:  # only then: what was made before there was a choice is as good as it was
            decisive["tta"] = "flip"
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
    jobs: Iterable[Job],
    refiner: Refiner,
    settings: BatchSettings,
    claims: Claims,
    room: MemoryRoom | None = None,
) -> Generator[Outcome, None, None]:
    """Do in this process the jobs that are not done; see run_on().

    Args:
        room: the main memory that photographs may take, by default what the machine has.
    """
    remove_leftovers(claims.root)
    yield from run_on(LocalEngine(refiner, settings, claims, room), jobs)


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


@dataclass(eq=False)
class _Work:
    """A job on its way."""

    job: Job
    started: float = field(default_factory=time.perf_counter)
    seconds: dict[str, float] = field(default_factory=dict)
    decoded: Future[Photo] = field(default_factory=Future)
    refined: tuple[Photo, Depth] | None = None
    encoded: Future[Outcome] = field(default_factory=Future)
    tiles: int = 0

    def taken(self) -> Photo:
        """The decoded photograph, which the job then no longer holds. Raises what decoding raised."""
        decoded, self.decoded = self.decoded, Future()
        return decoded.result()

    def given(self) -> tuple[Photo, Depth]:
        """What is to be encoded, which the job then no longer holds."""
        refined, self.refined = self.refined, None
        assert refined is not None
        return refined


class LocalEngine:
    """The jobs one after another with one refiner, their parts overlapping in threads.

    room: the main memory that photographs may take, by default what the machine has.
    """

    def __init__(
        self, refiner: Refiner, settings: BatchSettings, claims: Claims, room: MemoryRoom | None = None
    ) -> None:
        # What no photograph could be refined with is told once, and before the first.
        mode = settings.tiling.get("mode")
        check_authors_tiling(mode, settings.flip, bundle=refiner.bundle is not None)
        self.refiner, self.settings, self.claims = refiner, settings, claims
        self.room = room or MemoryRoom()
        self.digest = settings.digest(refiner)
        self.tiles_at_once = refiner.tiles_at_once(settings.batch_size)
        self.ahead = max(AHEAD, self.tiles_at_once)
        self.decoder, self.encoder = Worker("decode"), Worker("encode", self._encoders())

    def _encoders(self) -> int:
        """One where the cores are at work on the tiles."""
        return 1 if self.refiner.device.type == "cpu" else min(ENCODERS, os.cpu_count() or 1)

    def close(self) -> None:
        """See Engine. A large photograph that is being decoded is left to its thread: it would write nothing."""
        self.room.close()
        self.decoder.stop(DECODER_SECONDS)
        self.encoder.stop()
        self.claims.release_all()

    def run(self, jobs: list[Job]) -> Generator[Outcome, None, list[Job]]:
        """One round over the jobs; returns those that another process works on."""
        elsewhere: list[Job] = []
        encoding: deque[_Work] = deque()
        for works in self._decoded(jobs):
            while encoding and (len(encoding) >= self.ahead or encoding[0].encoded.done()):
                yield self._outcome(encoding.popleft())
            yield from self._advance(works, encoding, elsewhere)
        for work in encoding:
            yield self._outcome(work)
        return elsewhere

    def _advance(self, works: list[_Work], encoding: deque[_Work], elsewhere: list[Job]) -> list[Outcome]:
        """Refine what was decoded and give it to the encoder; the outcomes of those that come no further.

        Nothing of a photograph is kept here: its memory counts as free when it is encoded.
        """
        try:
            photos = [work.taken() for work in works]
        except _Elsewhere:
            elsewhere.append(works[0].job)
            return []
        except _Done:
            return [Outcome(works[0].job, "skipped", _report(works[0], "skipped"))]
        except _TooLarge:
            return [self._in_bands(works[0])]
        except Exception as error:
            return [self._failed(works[0], error)]
        ended = []
        for work, photo, result in zip(works, photos, self._refined(works, photos), strict=True):
            if isinstance(result, Exception):
                ended.append(self._failed(work, result))
            else:
                work.refined = (photo, result)
                work.encoded = self.encoder.submit(partial(self._encode, work))
                encoding.append(work)
        return ended

    def _decoded(self, jobs: list[Job]) -> Iterator[list[_Work]]:
        """The jobs whose decoding has ended, with those that go through the device together in one list.

        Nothing is waited for but the first: what is decoded already joins it as long as the device takes more tiles.
        """
        todo = map(self._submit, jobs)
        waiting = deque(islice(todo, self.ahead))
        while waiting:
            waiting.extend(islice(todo, 1))
            together = [waiting.popleft()]
            wait([together[0].decoded])
            tiles = together[0].tiles
            for work in list(waiting):
                if tiles and work.decoded.done() and 0 < work.tiles <= self.tiles_at_once - tiles:
                    waiting.remove(work)
                    together.append(work)
                    tiles += work.tiles
            waiting.extend(islice(todo, self.ahead - len(waiting)))
            yield together

    def _submit(self, job: Job) -> _Work:
        work = _Work(job)
        work.decoded = self.decoder.submit(partial(self._decode, work))
        return work

    def _decode(self, work: _Work) -> Photo:
        if not self.claims.acquire(work.job.target):
            raise _Elsewhere
        if not self.settings.overwrite and self._is_done(work.job):
            self.claims.release(work.job.target)
            raise _Done
        self._make_room(work)
        start = time.perf_counter()
        photo = read_photo(work.job.source, max_pixels=self.settings.max_pixels)
        work.seconds["decode"] = time.perf_counter() - start
        tiles = self.refiner.plan(*photo.rgb.shape[:2], **self.settings.tiling).tiles
        work.tiles = len(tiles) * (2 if self.settings.flip else 1)
        return photo

    def _make_room(self, work: _Work) -> None:
        """Wait until the photograph fits beside the others. Raises _TooLarge, InputError, admission.Closed."""
        try:
            header = read_header(work.job.source, max_pixels=self.settings.max_pixels)
        except Prv2Error:
            return  # reading it will say what is wrong with it
        tile = self.settings.tiling.get("tile", (0, 0))
        host = self.refiner.device.type == "cpu"
        memory = memory_for(header, tile, on_host=host, tta=self.settings.tta)
        if self.room.enter(work, header, memory) == "bands":
            raise _TooLarge

    def _is_done(self, job: Job) -> bool:
        """Whether the target says that it was made from these bytes with these settings."""
        if not job.target.exists():
            return False
        with suppress(Prv2Error, OSError):
            found = read_depth_metadata(job.target)
            if found is not None and found.settings_sha256 == self.digest:
                return found.source_sha256 == hash_file(job.source)
        return False

    def _refined(self, works: list[_Work], photos: list[Photo]) -> list[Depth | Exception]:
        """The depth of each photograph, or what is wrong with it."""
        focals = [self.settings.focal_px or photo.focal_px for photo in photos]
        settings = self.settings
        options = {"batch_size": settings.batch_size, "tta": settings.tta, **settings.tiling}
        found: list[Depth | Exception] = []
        if len(works) > 1:
            with suppress(Exception):  # of one of them: alone, each tells
                found += self.refiner.refine_many([photo.rgb for photo in photos], focal_px=focals, **options)
        for photo, focal in zip(photos[len(found) :], focals[len(found) :], strict=True):
            try:
                found.append(self.refiner.refine(photo.rgb, focal_px=focal, **options))
            except Exception as error:  # noqa: PERF203 - one bad file must not end the batch
                found.append(error)
        for work, result in zip(works, found, strict=True):
            work.seconds |= {} if isinstance(result, Exception) else result.seconds
        return found

    def _in_bands(self, work: _Work) -> Outcome:
        """All of a photograph that does not fit in memory, from disk to disk, in this thread."""
        from prv2cli.photo.on_disk import photo_on_disk
        from prv2cli.refine.streaming import check_streamed, refine_streamed, write_streamed

        settings, job = self.settings, work.job
        options = {key: value for key, value in settings.tiling.items() if key != "seed"}  # of random tiles
        options |= {"batch_size": settings.batch_size, "tta": settings.tta}
        try:
            check_streamed(settings.encoding)
            job.target.parent.mkdir(parents=True, exist_ok=True)
            start = time.perf_counter()
            with photo_on_disk(job.source, job.target.parent, max_pixels=settings.max_pixels) as photo:
                work.seconds["decode"] = time.perf_counter() - start
                focal = settings.focal_px or photo.focal_px
                pixels: Any = photo.rgb
                with refine_streamed(self.refiner, pixels, focal_px=focal, **options) as result:
                    work.seconds |= result.seconds
                    return self._write(work, photo, result, write_streamed)
        except Exception as error:
            return self._failed(work, error)
        finally:
            self.room.leave(work)

    def _encode(self, work: _Work) -> Outcome:
        try:
            return self._write(work, *work.given(), partial(write, on_band=self.room.check_open))
        finally:
            self.room.leave(work)

    def _write(self, work: _Work, photo: Photo, result: Depth, writer: Callable[..., WriteReport]) -> Outcome:
        """Write the depth with encoding.write, or with streaming.write_streamed."""
        start = time.perf_counter()
        metadata = describe(self.refiner, result, photo, focal_px=self.settings.focal_px)
        metadata = replace(metadata, settings_sha256=self.digest)
        work.job.target.parent.mkdir(parents=True, exist_ok=True)
        report = writer(work.job.target, result.depth, metadata, self.settings.encoding)
        self.claims.release(work.job.target)
        work.seconds["encode"] = time.perf_counter() - start
        seconds = {**work.seconds, "total": time.perf_counter() - work.started}
        source, target = str(work.job.source), str(work.job.target)
        found = summary(source, target, result, photo, metadata, report, seconds)
        return Outcome(work.job, "done", {"state": "done", **found, "error": None})

    def _outcome(self, work: _Work) -> Outcome:
        try:
            return work.encoded.result()
        except Exception as error:
            return self._failed(work, error)

    def _failed(self, work: _Work, error: Exception) -> Outcome:
        self.claims.release(work.job.target)
        self.room.leave(work)
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


class _TooLarge(Exception):
    """The photograph does not fit in memory."""


def _report(work: _Work, state: State, error: str | None = None) -> dict[str, Any]:
    seconds = {**work.seconds, "total": time.perf_counter() - work.started}
    return {
        "state": state,
        "input": str(work.job.source),
        "output": str(work.job.target),
        "error": error,
        "seconds": {part: round(value, 3) for part, value in seconds.items()},
    }
