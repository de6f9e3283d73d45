"""One photograph from file to file: what `prv2 refine` does once, and a batch again and again.

    source ─ open_photo ─ Photo ─ Refiner.run ─ Depth ─ save ─> depth, confidence, preview, exports,
             in memory or on disk (Way)                          comparison; summary

refine_file() is all of it, one step after the other. A batch takes the same steps apart, so that they overlap.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from prv2cli.depth_files.ours.encoding import Encoding, check_encoding, check_on_disk, write
from prv2cli.depth_files.ours.preview import preview_format, write_preview
from prv2cli.depth_files.ours.recognise import is_by_prv2
from prv2cli.depth_files.ours.write import WriteReport
from prv2cli.errors import InputError, Prv2Error, UsageError
from prv2cli.export.targets import Target, check_extras
from prv2cli.export.targets import check_on_disk as check_exports_on_disk
from prv2cli.jobs.comparison import comparison_format, write_comparison
from prv2cli.jobs.exports import check_outputs, memory_with, write_exports
from prv2cli.jobs.report import confidence_summary, describe, describe_confidence, summary
from prv2cli.photo.header import Header, read_header
from prv2cli.photo.on_disk import photo_on_disk
from prv2cli.photo.opening import MAX_PIXELS_DEFAULT
from prv2cli.photo.read import Photo, read_photo
from prv2cli.refine.estimate import Memory, Way, memory_for
from prv2cli.refine.request import GivenDepth, RefineRequest, Subject

if TYPE_CHECKING:
    from prv2cli.refine.fuse import Depth
    from prv2cli.refine.refiner import Refiner
    from prv2cli.refine.tiles.loop import Progress


@dataclass(frozen=True)
class Outputs:
    """Where the results of one photograph go, and how each is stored; a stream for the depth will do."""

    depth: Path | BinaryIO
    encoding: Encoding
    confidence: Path | None = None
    confidence_encoding: Encoding | None = None
    preview: Path | None = None
    exports: tuple[Target, ...] = ()
    compare: Path | None = None

    @property
    def folder(self) -> Path:
        """On whose disk a photograph that does not fit in memory is worked on."""
        return self.depth.parent if isinstance(self.depth, Path) else Path()

    def check(self) -> None:
        """Find out before any work what cannot be written. Raises UsageError, MissingExtraError."""
        for encoding in self._encodings():
            check_encoding(encoding)
        if self.preview is not None:
            preview_format(self.preview)
        check_extras(self.exports)
        if self.compare is not None:
            comparison_format(self.compare)

    def check_on_disk(self) -> None:
        """Refuse what cannot be written in bands. Raises UsageError."""
        for encoding in self._encodings():
            check_on_disk(encoding)
        check_exports_on_disk(self.exports)

    def _encodings(self) -> list[Encoding]:
        return [self.encoding, *([self.confidence_encoding] if self.confidence_encoding else [])]


@dataclass(frozen=True)
class FileJob:
    """One photograph, where its results go, and what is done in between.

    Attributes:
        source: a file, or a stream that is read once. name: as messages call a stream.
        given: a map to refine in place of a coarse network's.
        settings_sha256: identity of a batch's settings, which the depth file will carry.
    """

    source: Path | BinaryIO
    outputs: Outputs
    request: RefineRequest = field(default_factory=RefineRequest)
    max_pixels: int = MAX_PIXELS_DEFAULT
    given: GivenDepth | None = None
    settings_sha256: str | None = None
    name: str | None = None

    @property
    def place(self) -> str:
        """What `--json` calls the photograph: its path, that of a pipe, or - for stdin."""
        if isinstance(self.source, Path):
            return str(self.source)
        return "-" if self.name is None or self.name.startswith("<") else self.name

    @property
    def map_pixels(self) -> int:
        """Of the given map; 0 without one."""
        return 0 if self.given is None else self.given.values.size

    def subject(self, photo: Photo) -> Subject:
        """The decoded photograph as the refiner takes it."""
        return Subject(photo.rgb, photo.focal_px, self.given)


class Needs(NamedTuple):
    """What a photograph will take, told from its header."""

    header: Header
    memory: Memory


class Saved(NamedTuple):
    """What was written: the depth's report, and what `--json` prints."""

    report: WriteReport
    summary: dict[str, Any]


def needs_of(job: FileJob, *, on_host: bool = True, coarse_peak: int = 0) -> Needs | None:
    """What a photograph will take; None of a stream, and of a file that reading will say what is wrong with.

    See estimate.memory_for.
    """
    if not isinstance(job.source, Path):
        return None
    try:
        header = read_header(job.source, max_pixels=job.max_pixels)
    except Prv2Error:
        return None
    memory = memory_for(
        header, job.request, on_host=on_host, coarse_peak=coarse_peak, map_pixels=job.map_pixels
    )
    return Needs(header, memory_with(memory, header, job.outputs.exports))


@contextmanager
def open_photo(job: FileJob, way: Way) -> Iterator[Photo]:
    """The decoded photograph; with "bands" its pixels lie on the output's disk until the block ends.

    Raises what read_photo raises; UsageError for what cannot be done in bands.
    """
    if isinstance(job.source, Path) and is_by_prv2(job.source):
        raise InputError(
            f"{job.place}: a depth map, or a picture of one, that prv2 wrote; to refine a depth map, name its "
            "photograph and give the map with --coarse-depth"
        )
    if way == "memory":
        yield read_photo(job.source, max_pixels=job.max_pixels, name=job.name)
        return
    job.request.check_on_disk()
    job.outputs.check_on_disk()
    job.outputs.folder.mkdir(parents=True, exist_ok=True)
    with photo_on_disk(job.source, job.outputs.folder, max_pixels=job.max_pixels, name=job.name) as photo:
        yield photo


def check_turned(job: FileJob, refiner: Refiner) -> None:
    """Refuse, before it is refined, a given map that would be turned over and holds nothing above 0, where it can be.

    What a network makes of it as its prompt is depth of its own. Raises UsageError.
    """
    given = job.given
    if given is None or given.unit != "relative" or refiner.coarse is not None:
        return
    inverse = given.kind == "inverse"
    if job.outputs.encoding.inverse == inverse or (np.isfinite(given.values) & (given.values > 0)).any():
        return
    turned, way = ("depth", "add --inverse") if inverse else ("inverse depth", "leave out --inverse")
    raise UsageError(
        f"the map of --coarse-depth holds nothing above 0, and as {turned} all of it would be one number; {way}"
    )


def save(
    job: FileJob,
    refiner: Refiner,
    photo: Photo,
    result: Depth,
    seconds: dict[str, float],
    *,
    on_band: Callable[[], None] = lambda: None,
) -> Saved:
    """Write the depth and its companions: all take their places, or none. Adds to `seconds`, total excepted.

    Raises as write.write_depth, preview.write_preview, exports.write_exports and comparison.write_comparison: the last
    three leave the depth where it is.
    """
    start = time.perf_counter()
    outputs = job.outputs
    metadata = describe(
        refiner,
        result,
        photo,
        given=job.given,
        settings_sha256=job.settings_sha256,
    )
    told = None
    with ExitStack() as pending:
        if outputs.confidence is not None and outputs.confidence_encoding is not None:
            about = describe_confidence(refiner, result, metadata)
            assert result.confidence is not None
            certain = write(
                outputs.confidence,
                result.confidence,
                about,
                outputs.confidence_encoding,
                pending=pending,
                on_band=on_band,
            )
            told = confidence_summary(outputs.confidence, result.confidence, certain)
        report = write(
            outputs.depth,
            result.depth,
            metadata,
            outputs.encoding,
            signed=result.affine,
            pending=pending,
            on_band=on_band,
        )
    if outputs.preview is not None:
        inverse = result.kind == "inverse"
        write_preview(outputs.preview, result.depth, inverse=inverse, affine=result.affine)
    if outputs.compare is not None:
        write_comparison(outputs.compare, photo.rgb, result)
    exported = write_exports(job, photo, result, metadata, on_band)
    seconds["encode"] = time.perf_counter() - start
    found = summary(result, photo, metadata, report, job.given)
    places = {"input": job.place, "output": str(outputs.depth) if isinstance(outputs.depth, Path) else "-"}
    companions = {"confidence": told, "preview": str(outputs.preview) if outputs.preview else None}
    if outputs.compare is not None:
        companions["compare"] = str(outputs.compare)
    exports = {"exports": exported} if outputs.exports else {}
    return Saved(report, {**places, **found, **companions, **exports})


def refine_file(
    job: FileJob,
    way: Way,
    load: Callable[[Photo], Refiner],
    seconds: dict[str, float],
    watch: Callable[[], AbstractContextManager[Progress]],
) -> Saved:
    """All of it in this thread.

    Args:
        load: gives the refiner, once the photograph is known to be readable. watch: shows the progress of the tiles.
        seconds: gets the time of each part; what load() takes is its own to add.
    """
    start = time.perf_counter()
    with open_photo(job, way) as photo:
        seconds["decode"] = time.perf_counter() - start
        check_outputs(job, photo)
        refiner = load(photo)
        check_turned(job, refiner)
        with watch() as progress:
            (result,) = refiner.run([job.subject(photo)], job.request, progress)
        with result:
            seconds |= result.seconds
            return save(job, refiner, photo, result, seconds)
