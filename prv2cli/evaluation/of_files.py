"""Predicted depth files against true ones: which belong together, in which unit, of which size.

find_pairs(pred, gt)      two folders (by path without extension) or two files
evaluate_pairs(pairs)     -> report.Report, one row: "prediction"
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from prv2cli.choices import Kind, Resize
from prv2cli.datasets.folder import files_by_stem
from prv2cli.datasets.samples import left_out
from prv2cli.depth_files.decode import READ_SUFFIXES
from prv2cli.depth_files.formats.rows import far_end
from prv2cli.depth_files.ours.metadata import Content
from prv2cli.depth_files.read import decode_source, depth_of, without_unit
from prv2cli.errors import InputError, UsageError
from prv2cli.evaluation.config import Measuring
from prv2cli.evaluation.error_maps import check_error_maps
from prv2cli.evaluation.measure import as_result, measure, with_boundaries
from prv2cli.evaluation.report import ImageResult, Progress, Report, not_empty
from prv2cli.files.parts import file_and_part
from prv2cli.files.protected import Protected
from prv2cli.files.text import shown
from prv2cli.resampling.maps import bilinear, nearest

logger = logging.getLogger("prv2cli")


class DepthPair(NamedTuple):
    """name: path below the folders, without extension."""

    name: str
    pred: Path
    truth: Path


@dataclass(frozen=True)
class Reading:
    """How files are read that do not say it themselves: numbers per metre, depth or inverse depth."""

    scale: float | None = None
    kind: Kind | None = None


def find_pairs(
    pred: Path, truth: Path, *, pred_suffix: str = "", gt_suffix: str = ""
) -> tuple[list[DepthPair], list[str]]:
    """The pairs, and one line for every file without a partner.

    Args:
        pred, truth: two folders, looked into with all below them, or two files.
        pred_suffix, gt_suffix: what the names of one side have at their end, e.g. "_depth".

    Raises:
        UsageError: a folder and a file, two files of one name in a folder. InputError: nothing goes together.
    """
    files = {
        "--pred": file_and_part(pred)[0],
        "--gt": file_and_part(truth)[0],
    }  # FILE.npz:NAME is a file, too
    for flag, path in files.items():
        if not path.exists():
            raise UsageError(f"{flag} {path}: no such file or folder")
    if not any(path.is_dir() for path in files.values()):  # files, or pipes
        return [DepthPair(files["--pred"].stem, pred, truth)], []
    if not (pred.is_dir() and truth.is_dir()):
        raise UsageError(f"--pred {pred} and --gt {truth}: give two folders or two files")
    predictions = files_by_stem(pred, READ_SUFFIXES, pred_suffix)
    truths = files_by_stem(truth, READ_SUFFIXES, gt_suffix)
    pairs = [DepthPair(name, predictions[name], path) for name, path in truths.items() if name in predictions]
    if not pairs:
        raise InputError(
            f"no depth file of {pred} ({len(predictions)}) has the name of one in {truth} ({len(truths)}); "
            "--pred-suffix and --gt-suffix say what the names have at their end"
        )
    alone = [f"{path}: no prediction in {pred}" for name, path in truths.items() if name not in predictions]
    alone += [f"{path}: no truth in {truth}" for name, path in predictions.items() if name not in truths]
    return pairs, [shown(line) for line in alone]


def evaluate_pairs(
    pairs: list[DepthPair],
    how: Measuring,
    *,
    pred_reading: Reading = Reading(),
    gt_reading: Reading = Reading(),
    resize: Resize | None = None,
    error_maps: Path | None = None,
    tell: Callable[[str], None] = logger.warning,
    progress: Progress = lambda done, total: None,
) -> Report:
    """The figures of every pair. A file that cannot be read is told and left out.

    Args:
        resize: how a prediction of another size is brought to that of the truth; None: it is left out.
        error_maps: a folder for one PNG per pair.

    Raises:
        UsageError: a truth that does not say its unit, or a prediction that does not, or has no physical one, and
            is not aligned; an error map in the place of one of the files. OutputError: one in that of another file.
        InputError: not one pair could be measured.
    """
    inputs = Protected()
    for pair in pairs:
        inputs.add("a prediction", pair.pred)
        inputs.add("a truth", pair.truth)
    check_error_maps(error_maps, (pair.name for pair in pairs), ("prediction",), inputs)
    how, notes = with_boundaries(how)
    report = Report(how, notes=notes)
    for done, pair in enumerate(pairs):
        progress(done, len(pairs))
        try:
            report.images.append(
                _evaluate_pair(pair, how, pred_reading, gt_reading, resize, error_maps, tell)
            )
        except InputError as error:
            report.broken[pair.name] = str(error)
            tell(left_out(pair.name, error))
    progress(len(pairs), len(pairs))
    return not_empty(report)


def _evaluate_pair(
    pair: DepthPair,
    how: Measuring,
    pred_reading: Reading,
    gt_reading: Reading,
    resize: Resize | None,
    error_maps: Path | None,
    tell: Callable[[str], None],
) -> ImageResult:
    truth = _read(pair.truth, gt_reading, "--gt-scale", tell, Measuring())
    if truth.unit != "metre":
        raise UsageError(
            f"{pair.truth}: a truth without a physical unit; give its numbers per metre: --gt-scale N"
        )
    # The unit of what is aligned does not matter: a file need not say it.
    pred = _read(pair.pred, pred_reading, "--pred-scale", tell, how)
    if pred.unit != "metre" and how.align == "none":
        raise UsageError(
            f"{pair.pred} has no physical unit: --align scale-shift measures it, or --pred-scale N says its unit"
        )
    found = measure(_fitted(pred.depth, truth.depth.shape, resize, pair), truth.depth, how)
    fit = replace(found.fit, shift=found.fit.shift + found.fit.scale * pred.offset)
    return as_result(pair.name, truth.depth, {"prediction": replace(found, fit=fit)}, error_maps)


class _Read(NamedTuple):
    """(H, W) depth, NaN = none; its unit: metre or relative; what was added to the file's numbers, in their space."""

    depth: np.ndarray
    unit: str
    offset: float = 0.0


def _read(path: Path, reading: Reading, flag: str, tell: Callable[[str], None], how: Measuring) -> _Read:
    """A depth file; how: whether it is aligned, and in which space. Then one that says no unit will do."""
    name, stored = decode_source(path)
    relative = how.align != "none" and reading.scale is None
    # In integers of depth 0 is no depth, in those of inverse depth, as in floats, a value.
    zero_is_a_value = stored.numbers.dtype.kind == "f" or reading.kind == "inverse"
    others = relative and stored.metadata is None and zero_is_a_value
    if others:
        depth = without_unit(name, stored, reading.kind)
    else:
        depth = depth_of(
            name,
            stored,
            scale=reading.scale,
            kind=reading.kind,
            relative=relative,
            scale_flag=flag,
            relative_flag=None,
        )
    for note in depth.notes:
        tell(note)
    values, kind, offset = depth.values, depth.metadata.kind, 0.0
    if others or depth.metadata.signed:
        if how.align == "scale-shift" and how.align_space == ("disparity" if kind == "inverse" else "depth"):
            offset = _offset(values)
            values = values.astype(np.float64) + offset
        else:
            values = _above_zero(values, kind)
    if kind == "inverse":
        values = 1 / values
    return _Read(values, depth.metadata.unit.removeprefix("1/"), offset)


def _offset(values: np.ndarray) -> float:
    """What brings a map that reaches 0, or nearly, above it by its own range; 0 for others. The fit finds it again."""
    least, most = float(np.nanmin(values)), float(np.nanmax(values))
    return 0.0 if least >= far_end(values) else ((most - least) or 1.0) - least


def _above_zero(values: np.ndarray, kind: Content) -> np.ndarray:
    """With what can be measured in the place of 0 and less: the farthest (inverse), or the nearest."""
    if kind == "inverse":
        return np.maximum(values, far_end(values))
    nearest_of_all = np.min(values, where=values > 0, initial=np.inf)
    return np.where(values <= 0, nearest_of_all if np.isfinite(nearest_of_all) else far_end(values), values)


def _fitted(pred: np.ndarray, size: tuple[int, ...], resize: Resize | None, pair: DepthPair) -> np.ndarray:
    if pred.shape == size:
        return pred
    if resize is None:
        raise InputError(
            f"{pair.pred} is {pred.shape[1]} x {pred.shape[0]} and its truth {size[1]} x {size[0]}; "
            "--resize nearest or bilinear brings it to that size"
        )
    rows, columns = size
    return (nearest if resize == "nearest" else bilinear)(pred, (rows, columns))
