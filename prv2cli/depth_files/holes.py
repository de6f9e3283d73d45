"""Which stored numbers are no depth: what the file itself says, and what other programs write where nothing is.

    Stored -> find_holes -> (H, W) bool or None, and a note for a person with the count

Renderers write 1e10 (Blender), 65504 (the largest half float), 65535 or 3.4e38 behind everything; maps -9999.
Such a number is taken for "nothing there" only where it stands apart from the rest: a map whose depths run up to 65504
has numbers just below, and keeps it. Our own files need no such guess.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from prv2cli.depth_files.decode import Stored
from prv2cli.depth_files.formats.rows import row_bands
from prv2cli.depth_files.ours.metadata import SOFTWARE, DepthMetadata

FARTHEST_METRES = (
    1e6  # nothing is photographed from further away; half-way values between 1e10 and 5 m are out, too
)
_HUGE = 1e9  # numbers from here on are no one's depth, in whatever unit
_LARGEST_OF_TYPE = frozenset(
    (65504.0, 65535.0)
)  # of half floats and 16-bit integers, wherever they went since
_USUAL = frozenset((9999.0, 99999.0, 999999.0, 1e5, 1e6, 1e7, 1e8))
_USUAL_BELOW = frozenset((-9999.0, -99999.0, -999999.0, -32767.0, -32768.0, -65504.0))
_APART, _FAR_APART = 1.5, 4.0  # times the number next to it, for the largest of a type and for others
_SHARE = 1e-4  # of the pixels, that hold a number which is not huge: backgrounds are no single pixels
_FEW, _STRAY = 0.005, 10  # of the pixels, at each end; of the range of the others, away from it
_SAMPLES = 1 << 20  # pixels by which that range is told
_AT_AN_END = 3  # such numbers at most


def find_holes(stored: Stored, metadata: DepthMetadata | None) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """The pixels that are no depth by the file's own word or as written by other programs, and notes that say so.

    metadata: how the numbers are to be read; None where that is not known.
    """
    notes: list[str] = []
    if stored.holes is not None and stored.holes.any():
        notes.append(f"{_pixels(stored.holes)} marked as no data by the file itself: no depth")
    if stored.metadata is not None and stored.metadata.software == SOFTWARE:
        return stored.holes, tuple(notes)
    numbers = stored.numbers
    holes = np.zeros(numbers.shape, bool) if stored.holes is None else stored.holes.copy()
    metric = metadata is not None and metadata.unit == "metre"
    if metric and metadata is not None:
        beyond = _beyond(numbers, FARTHEST_METRES * metadata.scale) & ~holes
        if beyond.any():
            largest = float(numbers[beyond].max())
            notes.append(
                f"{_pixels(beyond)} of up to {largest:.9g}, which stands for nothing there: no depth"
            )
            holes |= beyond
    for value in _sentinels(numbers, holes, metric=metric):
        found = _equal(numbers, value) & ~holes
        notes.append(f"{_pixels(found)} of {value:.9g}, which stands for nothing there: no depth")
        holes |= found
    return (holes if notes else None), tuple(notes)


def find_stray(values: np.ndarray, holes: np.ndarray | None) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """`holes`, and the few pixels of a map without a unit that lie far outside all others, with a note that says so.

    1 / depth of a pixel without depth is one, a hot pixel another: from the range with it nothing could be told of the
    rest.
    """
    known = np.isfinite(values) if holes is None else np.isfinite(values) & ~holes
    sample = values[known][:: max(1, values.size // _SAMPLES)]
    if len(sample) == 0:
        return holes, ()
    least, most = np.quantile(sample.astype(np.float64), (_FEW, 1 - _FEW))
    room = _STRAY * (most - least)
    stray = known & ((values > most + room) | (values < least - room)) if room > 0 else np.zeros_like(known)
    if not stray.any():
        return holes, ()
    note = f"{_pixels(stray)} more than {_STRAY} times the range of all others away from them: no depth"
    return (stray if holes is None else holes | stray), (note,)


def _pixels(found: np.ndarray) -> str:
    count = int(np.count_nonzero(found))
    return f"{count} pixel" if count == 1 else f"{count} pixels"


def _beyond(numbers: np.ndarray, limit: float) -> np.ndarray:
    """Where finite floats are larger; half floats and integers end before any limit."""
    if numbers.dtype.kind != "f" or float(np.finfo(numbers.dtype).max) <= limit:
        return np.zeros(numbers.shape, bool)
    return np.asarray((numbers > limit) & np.isfinite(numbers))


def _equal(numbers: np.ndarray, value: float) -> np.ndarray:
    return np.asarray(numbers == numbers.dtype.type(value))


def _sentinels(numbers: np.ndarray, holes: np.ndarray, *, metric: bool) -> Iterator[float]:
    """The numbers that stand for nothing there, at each end of the map; `holes` grows by them meanwhile."""
    if numbers.dtype.kind == "f":
        yield from _at_end(numbers, holes, _LARGEST_OF_TYPE, _USUAL, top=True)
        if not metric:  # there, all below 0 is a hole
            yield from _at_end(numbers, holes, frozenset(), _USUAL_BELOW, top=False)
    elif (
        metric
    ):  # pictures of relative depth are stretched to the whole range: their largest number is a value
        largest = frozenset((int(np.iinfo(numbers.dtype).max),))
        yield from _at_end(numbers, holes, largest, frozenset(), top=True)


def _at_end(
    numbers: np.ndarray, holes: np.ndarray, apart: frozenset[float], far_apart: frozenset[float], *, top: bool
) -> Iterator[float]:
    """Numbers at one end of the map that are known, or huge, and apart from the rest."""
    for _ in range(_AT_AN_END):
        end = _end(numbers, holes, None, top=top)
        if end is None or (end <= 0 if top else end >= 0):
            return
        if end not in apart and end not in far_apart and abs(end) < _HUGE:
            return
        following = _end(numbers, holes, end, top=top)
        if following is None:  # all are alike: there is nothing to compare with
            if abs(end) >= _HUGE:
                yield end
            return
        times = _APART if end in apart else _FAR_APART
        if (following > 0) == (end > 0) and abs(end) < times * abs(following):
            return
        if abs(end) < _HUGE and np.count_nonzero(_equal(numbers, end) & ~holes) < max(
            2, numbers.size * _SHARE
        ):
            return
        yield end


def _end(numbers: np.ndarray, holes: np.ndarray, without: float | None, *, top: bool) -> float | None:
    """The largest or smallest finite number that is no hole and not `without`; band by band."""
    found: list[float] = []
    for rows in row_bands(*numbers.shape):
        band = numbers[rows]
        keep = np.isfinite(band) & ~holes[rows]
        if without is not None:
            keep &= ~_equal(band, without)
        if keep.any():
            # An integer stays one: the largest of 64 bits is no float.
            found.append((band[keep].max() if top else band[keep].min()).item())
    return (max(found) if top else min(found)) if found else None
