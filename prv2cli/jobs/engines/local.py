"""A batch in this process: decoding, device work and encoding overlap, and every file ends done, skipped or failed.

    Job ─ claim ─ room in memory ─ decode (a thread) ─ refine (this thread) ─ encode (threads) ─ Outcome

At most a few photographs are in memory at a time, whatever their number, and only as many as there is memory for; one
that does not fit even alone is worked on in bands. Small ones that are decoded go through a GPU together.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, wait
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from prv2cli.coarse.aspect import check_aspect
from prv2cli.depth_files.ours.recognise import is_complete, may_be_replaced
from prv2cli.depth_files.read import read_depth_metadata
from prv2cli.errors import DiskFullError, InputError, OutputError, Prv2Error
from prv2cli.export.targets import is_ours
from prv2cli.files.atomic import remove_leftovers
from prv2cli.files.hashing import hash_file
from prv2cli.files.protected import identity
from prv2cli.files.text import first_line, shown
from prv2cli.jobs.batch import BatchSettings, Job, Outcome, failed, report_of, run_on
from prv2cli.jobs.claims import Claims
from prv2cli.jobs.engines.admission import MemoryRoom
from prv2cli.jobs.exports import check_outputs
from prv2cli.jobs.given import map_sha256
from prv2cli.jobs.one_photo import FileJob, Saved, check_turned, needs_of, refine_file, save
from prv2cli.jobs.report import rounded
from prv2cli.machine.memory import ran_out_of_memory, resident_memory
from prv2cli.machine.threads import Worker
from prv2cli.photo.opening import label_of, read_once
from prv2cli.photo.read import Photo, read_photo
from prv2cli.refine.estimate import check_coarse_pass
from prv2cli.refine.request import GivenDepth, Subject

if TYPE_CHECKING:
    from prv2cli.refine.fuse import Depth
    from prv2cli.refine.refiner import Refiner

logger = logging.getLogger("prv2cli")

AHEAD = 2  # photographs decoded and waiting, and results waiting to be encoded; more where tiles go together
ENCODERS = 4  # beside a GPU, where one would be the slowest part: 12 megapixels take it longer than the GPU
DECODER_SECONDS = 1.0  # that a batch which ends early waits for what is being decoded


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
    claims.remove_dead()  # also what one left that was killed while it took over a dead one's
    yield from run_on(LocalEngine(refiner, settings, claims, room), jobs)


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
    map: GivenDepth | None = None

    def times(self) -> dict[str, float]:
        """Seconds by part, and in all until now."""
        return {**self.seconds, "total": time.perf_counter() - self.started}

    def taken(self) -> Photo:
        """The decoded photograph, which the job then no longer holds. Raises what decoding raised."""
        decoded, self.decoded = self.decoded, Future()
        return decoded.result()

    def check_map(self, size: tuple[int, int]) -> None:
        """Raises InputError where the given map is of another aspect than the photograph (rows, columns)."""
        if self.map is None or self.map.stretched:
            return
        try:
            check_aspect(self.map.values.shape, size)
        except InputError as error:
            raise InputError(f"{shown(self.job.source)}: {error}") from error

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
        refiner.check(settings.request)  # told once, and before the first photograph
        check_coarse_pass(refiner)
        self.refiner, self.settings, self.claims = refiner, settings, claims
        self.room = room or MemoryRoom()
        self.digest = settings.digest(refiner)
        self.started = time.time()
        # The process holds the models already, which count in what is free.
        self.coarse_peak = max(0, refiner.coarse_peak - resident_memory())
        self.tiles_at_once = refiner.tiles_at_once(settings.request.batch_size)
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
        job = works[0].job
        try:
            photos = [work.taken() for work in works]
        except _Elsewhere:
            elsewhere.append(job)
            return []
        except _Done:
            return [Outcome(job, "skipped", report_of(job, "skipped", works[0].times()))]
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
        try:
            if not self.claims.acquire(work.job.target):
                raise _Elsewhere
        except OutputError:  # where nothing can be written, what is there already is there all the same
            if self._is_done(work.job):
                raise _Done from None
            raise
        if self._is_done(work.job):
            self.claims.release(work.job.target)
            raise _Done
        if not self.settings.overwrite:
            for path in (work.job.target, *self.settings.companions.paths(work.job.target)):
                _check_own(path)
        source = read_once(work.job.source)
        if self.settings.maps is not None:
            work.map = self.settings.maps.read(work.job.coarse_depth, source)
        if source == work.job.source:
            self._make_room(work)
        start = time.perf_counter()
        photo = read_photo(source, max_pixels=self.settings.max_pixels, name=label_of(work.job.source))
        work.seconds["decode"] = time.perf_counter() - start
        height, width = photo.rgb.shape[:2]
        work.check_map((height, width))
        job = self._file_job(work)
        check_outputs(job, photo)
        check_turned(job, self.refiner)
        tiles = self.refiner.plan(height, width, self.settings.request.tiling).tiles
        work.tiles = len(tiles) * self.settings.request.views
        return photo

    def _file_job(self, work: _Work) -> FileJob:
        settings = self.settings
        return FileJob(
            work.job.source,
            settings.companions.outputs(work.job.target, settings.encoding),
            settings.request,
            settings.max_pixels,
            work.map,
            settings_sha256=self.digest,
        )

    def _make_room(self, work: _Work) -> None:
        """Wait until the photograph fits beside the others. Raises _TooLarge, InputError, admission.Closed."""
        needs = needs_of(
            self._file_job(work),
            on_host=self.refiner.device.type == "cpu",
            coarse_peak=self.coarse_peak,
        )
        if needs is None:
            return
        work.check_map((needs.header.height, needs.header.width))
        if self.room.enter(work, *needs) == "bands":
            raise _TooLarge

    def _is_done(self, job: Job) -> bool:
        """Whether the target says that it was made from these bytes with these settings, and is all there.

        Where all are to be made again: and that by another process of this batch.
        """
        if self.settings.overwrite and not _is_newer(job.target, self.started):
            return False
        if identity(job.target) is None or identity(job.source) is None:  # a pipe can be read but once
            return False
        with suppress(Prv2Error, OSError):
            found = read_depth_metadata(job.target)
            if found is not None and found.settings_sha256 == self.digest:
                given = None if job.coarse_depth is None else map_sha256(job.coarse_depth)
                same = (found.source_sha256, found.coarse_sha256) == (hash_file(job.source), given)
                return (
                    same
                    and is_complete(job.target, verify=self.settings.verify)
                    and self.settings.companions.are_done(job.target, found, verify=self.settings.verify)
                )
        return False

    def _refined(self, works: list[_Work], photos: list[Photo]) -> list[Depth | Exception]:
        """The depth of each photograph, or what is wrong with it."""
        subjects = [self._file_job(work).subject(photo) for work, photo in zip(works, photos, strict=True)]
        found = self._together(subjects) if len(subjects) > 1 else []
        for subject in subjects[len(found) :]:
            try:
                found += self.refiner.run([subject], self.settings.request)
            except Exception as error:  # noqa: PERF203 - one bad file must not end the batch
                found.append(error)
        for work, result in zip(works, found, strict=True):
            work.seconds |= {} if isinstance(result, Exception) else result.seconds
        return found

    def _together(self, subjects: list[Subject]) -> list[Depth | Exception]:
        """The depths of several, or nothing where one of them cannot be refined: alone, each tells."""
        try:
            return [*self.refiner.run(subjects, self.settings.request)]
        except Exception as error:
            logger.info("%d photographs together: %s; now one after the other", len(subjects), error)
            return []

    def _in_bands(self, work: _Work) -> Outcome:
        """All of a photograph that does not fit in memory, from disk to disk, in this thread."""
        quiet = nullcontext(lambda done, total: None)
        try:
            job = self._file_job(work)
            return self._done(
                work, refine_file(job, "bands", lambda photo: self.refiner, work.seconds, lambda: quiet)
            )
        except DiskFullError as error:  # what it had written is gone again: smaller photographs may fit
            return self._failed(work, OutputError(str(error)))
        except Exception as error:
            return self._failed(work, error)
        finally:
            self.room.leave(work)

    def _encode(self, work: _Work) -> Outcome:
        try:
            job = self._file_job(work)
            work.job.target.parent.mkdir(parents=True, exist_ok=True)
            saved = save(job, self.refiner, *work.given(), work.seconds, on_band=self.room.check_open)
            return self._done(work, saved)
        finally:
            self.room.leave(work)

    def _done(self, work: _Work, saved: Saved) -> Outcome:
        self.claims.release(work.job.target)
        report = {"state": "done", **saved.summary, "error": None, "seconds": rounded(work.times())}
        return Outcome(work.job, "done", report)

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
        return failed(work.job, _told(work.job, error), work.times())


def _told(job: Job, error: Exception) -> str:
    """What is said of it; of the files of the job one is named."""
    text = str(error) if isinstance(error, Prv2Error) else _reason(error)
    files = [path for path in (job.source, job.coarse_depth, job.target) if path is not None]
    named = isinstance(error, Prv2Error) and any(shown(path) in text for path in files)
    return text if named else f"{shown(job.source)}: {text}"


def _reason(error: Exception) -> str:
    """What the outside world did, or for a fault of ours its kind, too."""
    if ran_out_of_memory(error):
        return "not enough memory; close other programs, or use a smaller --tile"
    return first_line(error) if isinstance(error, OSError) else f"{type(error).__name__}: {first_line(error)}"


def _is_newer(path: Path, than: float) -> bool:
    """Whether a file was written after a time."""
    try:
        return path.stat().st_mtime > than
    except OSError:
        return False


def _check_own(target: Path) -> None:
    """Raises OutputError where a file lies that is not prv2's to replace."""
    there = os.path.exists(target) and not os.path.isdir(target)  # noqa: PTH110, PTH112 - of a folder, writing tells
    if there and not (may_be_replaced(target) or is_ours(target)):
        raise OutputError(
            f"{shown(target)} is there and was not written by prv2; keep it with another -o or --name, or replace it "
            "with --overwrite"
        )


class _Elsewhere(Exception):
    """Another process has claimed the job."""


class _Done(Exception):
    """Nothing is to be done."""


class _TooLarge(Exception):
    """The photograph does not fit in memory."""
