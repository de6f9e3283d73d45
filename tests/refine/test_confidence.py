"""Confidence and the mirrored pass: the formula, the symmetry, bands, files, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from training_runs import BUNDLE, REFINER

from prv2cli.checkpoints.model_file import read_checkpoint, save_checkpoint
from prv2cli.cli import app
from prv2cli.depth_files.convert import convert
from prv2cli.depth_files.info import depth_info
from prv2cli.depth_files.ours.encoding import CONFIDENCE_STEPS, Encoding
from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.depth_files.ours.write import write_depth
from prv2cli.depth_files.read import read_depth
from prv2cli.errors import InputError, OutputError, UsageError
from prv2cli.files.disk_array import DiskArray
from prv2cli.jobs.batch import BatchSettings
from prv2cli.jobs.claims import Claims
from prv2cli.jobs.engines.local import LocalEngine
from prv2cli.model.build import build_model
from prv2cli.model.config import BundleConfig
from prv2cli.model.depth_space import Affine, LogNormalisation, PlainMetres
from prv2cli.photo.header import Header
from prv2cli.refine import prepare
from prv2cli.refine.estimate import dry_run, memory_for
from prv2cli.refine.prepare import Preparer
from prv2cli.refine.refiner import Refiner
from prv2cli.refine.request import GivenDepth, RefineRequest, Subject
from prv2cli.refine.tiles.loop import TileLoop
from prv2cli.tiling.blend import Blender
from prv2cli.tiling.disagreement import (
    AFFINE_FORMULA,
    FORMULA,
    HALF_CONFIDENT,
    Disagreement,
    to_confidence,
)
from prv2cli.tiling.plan import overlaps, plan_paper_tiles, plan_tiles

GRID: dict[str, Any] = {"tile": 128, "overlap": 0.25}


Prv2 = Callable[..., tuple[int, bytes, str]]


@pytest.fixture(scope="module")
def photo(photograph: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(photograph[60:261, 50:240])  # (201, 190, 3)


@pytest.fixture(scope="module")
def coarse() -> np.ndarray:
    y, x = np.mgrid[0:67, 0:63]
    return np.where((x > 20) & (x < 40) & (y > 30), 2.0, 4 + x / 63).astype(np.float32)


# --- disagreement -----------------------------------------------------------------------------------------


def test_half_the_range_of_all_predictions_in_any_order() -> None:
    rng = np.random.default_rng(0)
    predictions = rng.normal(size=(5, 6, 7)).astype(np.float32)
    expected = (predictions.max(0) - predictions.min(0)) / 2
    for order in (range(5), reversed(range(5))):
        found = Disagreement(6, 7)
        for i in order:
            found.add((slice(0, 6), slice(0, 7)), predictions[i], np.ones((6, 7), np.float32))
        np.testing.assert_allclose(found.take(6), expected, rtol=1e-6)


def test_one_prediction_is_no_agreement_and_weight_zero_is_no_prediction() -> None:
    found = Disagreement(1, 4)
    whole = (slice(0, 1), slice(0, 4))
    found.add(whole, np.full((1, 4), 3, np.float32), np.ones((1, 4), np.float32))
    found.add(whole, np.full((1, 4), 5, np.float32), np.array([[1, 0, 0.5, 0]], np.float32))
    np.testing.assert_array_equal(found.take(1), [[1, np.nan, 1, np.nan]])


def test_the_scale_of_confidence() -> None:
    deviation = np.array([0, HALF_CONFIDENT, 9 * HALF_CONFIDENT, np.nan], np.float32)
    np.testing.assert_allclose(to_confidence(deviation), [1, 0.5, 0.1, np.nan], rtol=1e-6)


def test_deviations_are_relative_in_both_spaces() -> None:
    scale = LogNormalisation(torch.tensor(2.0), torch.tensor(0.5))
    apart, values = np.full((1, 1), 0.02, np.float32), np.full((1, 1), 7, np.float32)
    np.testing.assert_allclose(scale.relative_in_place(apart, values), 0.01)
    apart, values = np.full((1, 1), 0.2, np.float32), np.full((1, 1), 4, np.float32)
    assert PlainMetres(3.0).relative_in_place(apart, values) == pytest.approx(0.05)


def test_tiles_that_overlap_are_told_from_those_that_do_not() -> None:
    assert not overlaps(plan_tiles(100, 100, (128, 128), 0.25, 32))  # one tile
    assert not overlaps(plan_paper_tiles(128, 128, "m1", 0, 32))
    assert overlaps(plan_tiles(100, 300, (128, 128), 0.25, 32))
    assert overlaps(plan_paper_tiles(128, 128, "m2", 0, 32))


# --- what the refiner makes of it -------------------------------------------------------------------------


def _predicting(monkeypatch: pytest.MonkeyPatch, predict: Callable[[np.ndarray, int], float]) -> Any:
    """A refiner whose tiles hold what predict(rgb, number of the tile) says, in normalised log-depth."""
    count = iter(range(10_000))

    def batch(self: Any, part: Any, *rest: Any) -> Any:
        return np.stack(
            [
                np.full((t.rows.length, t.columns.length), predict(canvas.rgb, next(count)), np.float32)
                for canvas, t in part
            ]
        )

    monkeypatch.setattr(TileLoop, "_refine_batch", batch)
    monkeypatch.setattr(Preparer, "_has_wide_edges", lambda *_: False)
    monkeypatch.setattr("prv2cli.refine.fuse.correct", lambda *_, **_known: None)
    monkeypatch.setattr("prv2cli.refine.fuse.add_change", lambda *_: None)


@pytest.mark.parametrize("options", [{}, {"tta": "none"}, {"mode": "m2"}, {"mode": "r3", "tta": "none"}])
def test_equal_predictions_are_certain(
    refiner: Refiner,
    photo: np.ndarray,
    coarse: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
) -> None:
    _predicting(monkeypatch, lambda rgb, number: 0.7)
    grid = {} if "mode" in options else GRID
    result = refiner.refine(photo, coarse_depth=coarse, confidence=True, **grid, **options)
    assert result.confidence is not None
    known = ~np.isnan(result.confidence)
    # The mean over the mirrored map is summed in another order.
    np.testing.assert_allclose(result.confidence[known], 1, atol=0 if "tta" in options else 3e-6)
    assert known.all() == ("tta" not in options)
    assert known.any()


def test_known_disagreement_gives_the_formula(
    refiner: Refiner, photo: np.ndarray, coarse: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mirror image is 0.04 spreads further away in every tile, and the depth is the mean."""
    _predicting(monkeypatch, lambda rgb, number: 0.1 if rgb.base is None else 0.14)
    result = refiner.refine(photo, coarse_depth=coarse, confidence=True, **GRID)
    scale = LogNormalisation.of(torch.from_numpy(coarse)[None, None])
    half = 0.02 * float(scale.spread)
    assert result.confidence is not None
    np.testing.assert_allclose(result.confidence, 1 / (1 + 100 * half), rtol=1e-5)
    np.testing.assert_allclose(
        np.log(result.depth), float(scale.centre) + 0.12 * float(scale.spread), rtol=1e-5
    )
    assert result.tta == "flip"


@pytest.mark.parametrize(
    "options", [{}, GRID, {"mode": "m2"}, {**GRID, "batch_size": 3}], ids=["one", "grid", "m2", "batch"]
)
def test_the_mirrored_photograph_gives_the_mirrored_result(
    refiner: Refiner, photo: np.ndarray, coarse: np.ndarray, options: dict[str, Any]
) -> None:
    whole = refiner.refine(photo, coarse_depth=coarse, confidence=True, **options)
    seen = np.ascontiguousarray(photo[:, ::-1])
    other = refiner.refine(seen, coarse_depth=coarse[:, ::-1], confidence=True, **options)
    np.testing.assert_allclose(other.depth[:, ::-1], whole.depth, rtol=1e-3)
    assert other.confidence is not None
    assert whole.confidence is not None
    np.testing.assert_allclose(other.confidence[:, ::-1], whole.confidence, atol=1e-4)


def test_a_coarse_network_runs_once_and_the_mean_lies_between(
    refiner: Refiner, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    network: Any = refiner.coarse
    real, calls = network.predict_many, []

    def counted(*arguments: Any) -> Any:
        calls.append(1)
        return real(*arguments)

    monkeypatch.setattr(network, "predict_many", counted)
    flipped = refiner.refine(photo, tta="flip")
    plain = refiner.refine(photo)
    assert (len(calls), plain.tta, plain.confidence, flipped.confidence) == (2, None, None, None)
    assert flipped.tiles == 2 * plain.tiles
    change = np.abs(flipped.depth / plain.depth - 1)
    assert 0 < change.mean() < 0.1


def test_normalised_depth_changes_its_scale_exactly() -> None:
    one, other = (LogNormalisation(torch.tensor(c), torch.tensor(s)) for c, s in ((0.3, 0.2), (1.1, 0.5)))
    values = np.array([[-1, 0, 2]], np.float32)
    expected = other.decode_in_place(values.copy())
    np.testing.assert_allclose(one.decode_in_place(one.convert(values, other)), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tta": "none"}, "--tta none"),
        ({"tta": "none", "tile": 128, "overlap": 0.25, "mode": "m9"}, "--mode m9"),
    ],
)
def test_a_confidence_known_nowhere_is_refused_before_the_work(
    refiner: Refiner,
    photo: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.setattr(Preparer, "views", None)
    with pytest.raises(UsageError, match=message):
        refiner.refine(photo, confidence=True, **options)


def test_another_word_for_tta_is_refused(refiner: Refiner, photo: np.ndarray) -> None:
    with pytest.raises(UsageError, match="--tta rotate"):
        refiner.refine(photo, tta="rotate")  # type: ignore[arg-type]


# --- a bundle, whose own network looks at the mirror image -------------------------------------------------


@pytest.fixture(scope="module", params=["metres", "normalised-log"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Refiner:
    """A small random bundle whose refiner changes what its coarse network says."""
    config = BundleConfig.model_validate({**BUNDLE, "refiner": {**REFINER, "depth_space": request.param}})
    torch.manual_seed(0)
    network: Any = build_model(config)
    with torch.no_grad():
        for parameter in network.refiner.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    path = tmp_path_factory.mktemp("bundle") / "bundle.safetensors"
    save_checkpoint(path, network, config, {})
    return Refiner(read_checkpoint(path), device="cpu", precision="fp32")


ONE_TILE: dict[str, Any] = {"tile": (96, 128)}
TILES: dict[str, Any] = {"overlap": 0.25}


@pytest.mark.parametrize(
    "options", [ONE_TILE, TILES, {**TILES, "batch_size": 4}], ids=["one", "grid", "batch"]
)
def test_a_bundle_takes_the_mean_of_both_photographs(
    bundle: Refiner, photograph: np.ndarray, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes out for the photograph and, mirrored back, for its mirror image, each refined alone."""
    monkeypatch.setattr("prv2cli.refine.fuse.add_change", lambda *_: None)
    small = np.ascontiguousarray(photograph[100:190, 130:251])
    one = bundle.refine(small, **options)
    other = bundle.refine(np.ascontiguousarray(small[:, ::-1]), **options).depth[:, ::-1]
    logarithmic = bundle.config.depth_space == "normalised-log"
    mean = np.sqrt(one.depth * other) if logarithmic else (one.depth + other) / 2
    assert np.abs(other / one.depth - 1).max() > 1e-3
    found = bundle.refine(small, confidence=True, **options)
    assert (found.tta, found.tiles) == ("flip", 2 * one.tiles)
    np.testing.assert_allclose(found.depth, mean, rtol=1e-5)
    np.testing.assert_array_equal(found.coarse, one.coarse)
    if options is ONE_TILE:
        apart = np.abs(np.log(one.depth / other)) if logarithmic else np.abs(one.depth - other) / mean
        assert found.confidence is not None
        np.testing.assert_allclose(found.confidence, 1 / (1 + apart / 2 / HALF_CONFIDENT), atol=1e-3)
    many = bundle.run([Subject(small), Subject(small[::-1])], RefineRequest.of(tta="flip", **options))
    np.testing.assert_allclose(many[0].depth, mean, rtol=1e-5)
    assert many[1].tta == "flip"


def test_a_bundle_mirrors_a_photograph_on_disk_too(
    bundle: Refiner, photograph: np.ndarray, tmp_path: Path
) -> None:
    small = photograph[100:190, 130:251]
    whole = bundle.refine(small, confidence=True, **TILES)
    rgb = DiskArray(small.shape, np.uint8, tmp_path)
    rgb[:] = small
    with bundle.refine(rgb, confidence=True, **TILES) as found:
        assert found.confidence is not None
        assert whole.confidence is not None
        assert np.array_equal(found.depth[:], whole.depth)
        assert np.array_equal(found.confidence[:], whole.confidence)


@pytest.mark.parametrize(
    "options", [{"tta": "flip"}, {"confidence": True}, {"confidence": True, "tta": "none"}]
)
def test_the_authors_tiling_of_a_bundle_has_one_view(
    bundle: Refiner, photograph: np.ndarray, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.setattr(Preparer, "views", None)
    with pytest.raises(UsageError, match="--mode m2 of a bundle is the authors' own tiling"):
        bundle.refine(photograph, mode="m2", **options)
    header = Header("photo", "PNG", 420, 300, False, 0, 0)
    if "confidence" not in options:  # of a batch it is told before the first photograph
        settings = BatchSettings(Encoding("tiff"), RefineRequest.of(mode="m2", tta="flip"))
        with pytest.raises(UsageError, match="--mode m2 of a bundle"):
            LocalEngine(bundle, settings, Claims(Path("nowhere")))
    with pytest.raises(UsageError, match="--mode m2 of a bundle"):
        dry_run(bundle, header, RefineRequest.of(mode="m2", **options), timed=False)
    if options == {"tta": "flip"}:
        with pytest.raises(UsageError, match="--mode m2 of a bundle"):
            bundle.run([Subject(photograph)], RefineRequest.of(mode="m2", **options))


def test_the_authors_tiling_of_a_bundle_says_what_ran(
    bundle: Refiner, photograph: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random tiles come by fours, all in float32; what they cannot cut is refused before anything is run."""
    monkeypatch.setattr(bundle, "dtype", torch.bfloat16)
    result = bundle.refine(photograph[:64, :96], mode="r5", seed=3)
    assert (result.tiles, result.precision, result.batch_size) == (53, "float32", 4)
    assert result.tiling == "paper r5: 53 tiles of 16x24"
    monkeypatch.setattr(Preparer, "views", None)
    with pytest.raises(UsageError, match="a height divisible by 4, not 65"):
        bundle.refine(photograph[:65, :96], mode="m1")


# --- several photographs --------------------------------------------------------------------------------------


def test_several_photographs_and_their_mirror_images_share_batches(
    refiner: Refiner, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = TileLoop._refine_batch, []

    def counted(self: Any, part: Any, *rest: Any) -> Any:
        seen.append({(id(canvas.sink), canvas.mirrored) for canvas, _ in part})
        return real(self, part, *rest)

    monkeypatch.setattr(TileLoop, "_refine_batch", counted)
    monkeypatch.setattr("prv2cli.refine.prepare.WIDE_EDGES", 0.0)  # with the passes at half size
    photos = [photo, np.ascontiguousarray(photo[::-1])]
    request = RefineRequest.of(batch_size=4, tta="flip")
    together = refiner.run([Subject(rgb) for rgb in photos], request)
    assert max(map(len, seen)) == 4
    for rgb, found in zip(photos, together, strict=True):
        alone = refiner.refine(rgb, tta="flip")
        assert (found.tta, found.tiles) == (alone.tta, alone.tiles) == ("flip", 2)
        assert np.abs(found.depth / alone.depth - 1).max() < 1e-3


# --- bands ------------------------------------------------------------------------------------------------


def test_bands_compare_as_the_whole_does(tmp_path: Path) -> None:
    plan = plan_tiles(300, 200, (64, 64), 0.3, 32)
    rng = np.random.default_rng(0)
    whole = Blender(plan, passes=2, compare=True)
    bands = Blender(plan, tmp_path, passes=2, compare=True)
    rows = sorted({tile.rows.start for tile in plan.tiles})
    for start in rows:
        for mirrored in (False, True):
            for tile in (t for t in plan.tiles if t.rows.start == start):
                values = rng.normal(size=(tile.rows.length, tile.columns.length)).astype(np.float32)
                for blender in (whole, bands):
                    blender.add(tile, values, mirrored=mirrored)
    (on_disk, spread), (other, expected) = bands.finish(), whole.finish()
    assert spread is not None
    assert expected is not None
    assert np.array_equal(on_disk[:], other)
    np.testing.assert_array_equal(spread[:], expected)
    assert (spread[:] > 0).all()


def test_a_photograph_on_disk_gets_the_same_confidence(
    refiner: Refiner, photo: np.ndarray, coarse: np.ndarray, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"coarse_depth": coarse, "confidence": True, **GRID}
    whole = refiner.refine(photo, **options)
    rgb = DiskArray(photo.shape, np.uint8, tmp_path)
    rgb[:] = photo
    with refiner.refine(rgb, **options) as result:
        assert result.confidence is not None
        assert whole.confidence is not None
        assert np.array_equal(result.depth[:], whole.depth)
        assert np.array_equal(result.confidence[:], whole.confidence)
        assert result.tta == "flip"
    assert list(tmp_path.iterdir()) == []


def test_the_estimate_counts_what_is_compared() -> None:
    header = Header("photo", "TIFF", 20_000, 10_000, False, 0, 0)
    plain, flip, both = (
        memory_for(header, RefineRequest.of(**options))
        for options in ({"tta": "none"}, {"tta": "flip"}, {"confidence": True})
    )
    assert plain.in_memory < flip.in_memory < both.in_memory
    assert plain.in_bands < flip.in_bands < both.in_bands
    assert plain.photograph < flip.photograph < both.photograph
    assert both.disk - flip.disk == 4 * header.pixels
    assert both == memory_for(header, RefineRequest.of(tta="flip", confidence=True))


# --- files ------------------------------------------------------------------------------------------------

ABOUT = DepthMetadata(kind="confidence", unit="fraction", tta="flip", extra={"formula": "f"})


@pytest.fixture
def confidence() -> np.ndarray:
    values = np.linspace(0.01, 1, 600, dtype=np.float32).reshape(20, 30)
    values[3, 4] = np.nan
    return values


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("c.png", "uint16"),
        ("c.tif", "uint16"),
        ("c.tif", "float32"),
        ("c.npy", "uint16"),
        ("c.npz", "uint16"),
        ("c.exr", "uint16"),
    ],
)
def test_every_format_says_that_it_holds_a_confidence(
    tmp_path: Path, confidence: np.ndarray, name: str, dtype: Any
) -> None:
    if name.endswith("exr"):
        pytest.importorskip("OpenEXR")
    path = tmp_path / name
    report = write_depth(path, confidence, ABOUT, dtype=dtype, scale=CONFIDENCE_STEPS)
    assert (report.invalid, report.clipped) == (1, 0)
    found = depth_info(path)
    assert (found["kind"], found["unit"], found["tta"], found["invalid"]) == (
        "confidence",
        "fraction",
        "flip",
        1,
    )
    assert found["extra"]["formula"] == "f"
    assert found["min"] == pytest.approx(0.01, abs=1e-5)
    assert found["max"] == 1
    assert found["median"] == pytest.approx(np.nanmedian(confidence), abs=1e-5)


def test_a_confidence_is_never_read_as_depth(tmp_path: Path, confidence: np.ndarray) -> None:
    path = tmp_path / "c.png"
    write_depth(path, confidence, ABOUT, scale=CONFIDENCE_STEPS)
    for options in ({}, {"scale": 256.0}, {"kind": "depth"}, {"relative": True}):
        with pytest.raises(InputError, match=r"c\.png: a confidence map, not depth"):
            read_depth(path, **options)
    with pytest.raises(InputError, match="a confidence map"):
        convert(path, tmp_path / "d.npy")
    with pytest.raises(InputError, match="a confidence map"):
        depth_info(path, scale=3.0)
    assert [p.name for p in tmp_path.iterdir()] == ["c.png"]


def test_metadata_with_a_kind_that_does_not_go_with_its_unit_is_refused() -> None:
    for unit, kind in (("fraction", "depth"), ("metre", "confidence")):
        text = (
            DepthMetadata()
            .to_json()
            .replace('"metre"', f'"{unit}"')
            .replace('"kind": "depth"', f'"kind": "{kind}"')
        )
        with pytest.raises(InputError, match="does not go with unit"):
            DepthMetadata.from_json(text)


def test_pending_files_take_their_places_together(tmp_path: Path) -> None:
    a, b = tmp_path / "a.npy", tmp_path / "b.npy"
    a.write_bytes(b"old")
    depth = np.ones((3, 4), np.float32)

    def write_a_and_fail() -> None:
        with ExitStack() as pending:
            write_depth(a, depth, DepthMetadata(), pending=pending)
            write_depth(tmp_path / "missing" / "b.npy", depth, DepthMetadata(), pending=pending)

    with pytest.raises(OutputError):
        write_a_and_fail()
    assert a.read_bytes() == b"old"
    with ExitStack() as pending:
        for path in (a, b):
            write_depth(path, depth, DepthMetadata(), pending=pending)
        assert a.read_bytes() == b"old"
        assert not b.exists()
    assert read_depth(a).values.shape == read_depth(b).values.shape == (3, 4)
    assert len(list(tmp_path.iterdir())) == 2


# --- the command line -------------------------------------------------------------------------------------


@pytest.fixture
def prv2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    photo: np.ndarray,
    refiner: Refiner,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> Prv2:
    """`prv2 refine photo.png ...` in a folder of its own, with the session's models: (code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photo).save("photo.png")
    monkeypatch.setattr(Refiner, "load", lambda *_: refiner)

    def call(*arguments: object) -> tuple[int, bytes, str]:
        capsysbinary.readouterr()
        code = app._run(["refine", "photo.png", "--coarse", "lite", *map(str, arguments)], False)
        out, err = capsysbinary.readouterr()
        return code, out, err.decode()

    return call


def test_the_confidence_is_written_and_reported(prv2: Prv2) -> None:
    code, out, err = prv2("-o", "d.tif", "--confidence", "c.tif", "--dtype", "float32", "--json", "-q")
    assert (code, err) == (0, "")
    found = json.loads(out)
    about = depth_info(Path("c.tif"))
    assert found["tta"] == about["tta"] == depth_info(Path("d.tif"))["tta"] == "flip"
    assert found["confidence"]["output"] == "c.tif"
    assert found["confidence"]["unknown"] == 0
    assert found["confidence"]["median"] == pytest.approx(
        about["median"], rel=0.05
    )  # either of some of the pixels
    assert (about["kind"], about["dtype"]) == ("confidence", "float32")
    assert "1 / (1 + 100 d)" in about["extra"]["formula"]
    assert prv2("-o", "e.tif", "--json", "-q")[1].count(b'"confidence": null') == 1


def test_the_formula_is_that_of_the_space(prv2: Prv2) -> None:
    """Of a map without a zero there are no logarithms."""
    y, x = np.mgrid[0:201, 0:190]
    Image.fromarray((y / 2 + x / 4).astype(np.uint8)).save("map.png")
    given = ("--coarse", "auto", "--coarse-depth", "map.png", "--coarse-kind", "inverse")
    code, _, err = prv2("-o", "d.tif", *given, "--confidence", "c.tif", "-q")
    assert (code, err) == (0, "")
    assert depth_info(Path("c.tif"))["extra"]["formula"] == AFFINE_FORMULA
    assert prv2("-o", "d.tif", "--confidence", "c.tif", "-q")[0] == 0
    assert depth_info(Path("c.tif"))["extra"]["formula"] == FORMULA


def test_the_formula_of_maps_without_a_zero() -> None:
    values = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0]).view(1, 1, 1, 5)
    scale = Affine.of(values)
    low, high = (scale.encode(torch.tensor(value)) for value in (2.0, 2.2))
    deviation = np.array([float((high - low).abs()) / 2], np.float32)
    found = to_confidence(scale.relative_in_place(deviation, np.zeros(1)))
    spread = 1.5 * (2 + 1 + 0 + 1 + 2) / 5
    assert found[0] == pytest.approx(1 / (1 + 100 * 0.4 * 0.1 / spread), rel=1e-5)


def test_depth_on_stdout_goes_with_a_confidence_file(prv2: Prv2) -> None:
    code, out, err = prv2("-o", "-", "--format", "npy", "--confidence", "c.png", "-q")
    assert (code, err) == (0, "")
    Path("piped.npy").write_bytes(out)
    assert read_depth(Path("piped.npy")).values.shape == (201, 190)
    assert depth_info(Path("c.png"))["dtype"] == "uint16"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "d.tif", "--confidence", "d.tif"), "--confidence d.tif: that is the depth map itself"),
        (("-o", "d.tif", "--confidence", "./d.tif"), "that is the depth map itself"),
        (("-o", "d.tif", "--preview", "p.png", "--confidence", "p.png"), "that is the file of --preview"),
        (("--confidence", "c.jpg"), "--confidence c.jpg: name a file that ends in .png"),
        (("--confidence", "-"), "--confidence -: name a file that ends in"),
        (("--confidence", "photo.png"), "--confidence photo.png: that is the photograph itself"),
        (("--confidence", "c.png", "--tta", "none"), "--tta none compares tiles that overlap"),
    ],
)
def test_impossible_confidences_are_refused(prv2: Prv2, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = prv2(*arguments)
    assert (code, out) == (2, b"")
    assert message in err.replace("\n", " ")
    assert [p.name for p in Path().iterdir()] == ["photo.png"]


def test_a_confidence_map_is_no_coarse_depth(prv2: Prv2) -> None:
    assert prv2("-o", "d.tif", "--confidence", "c.tif", "-q")[0] == 0
    code = app._run(["refine", "photo.png", "--coarse-depth", "c.tif", "-o", "x.tif"], False)
    assert code == 1
    assert not Path("x.tif").exists()


@pytest.mark.parametrize("failing", [0, 1])
def test_when_one_of_the_two_files_fails_neither_is_left(
    prv2: Prv2, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    from prv2cli.depth_files.ours import encoding

    Path("c.npy").write_bytes(b"old")
    real, calls = encoding.write_depth, []

    def write(target: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(target, Path):  # not the trial before the work
            calls.append(target)
            if len(calls) == failing + 1:
                raise OutputError(f"{target}: the disk is full")
        return real(target, *arguments, **options)

    monkeypatch.setattr(encoding, "write_depth", write)
    code, _, err = prv2("-o", "d.tif", "--confidence", "c.npy", "-q")
    assert code == 1
    assert "the disk is full" in err
    assert sorted(p.name for p in Path().iterdir()) == ["c.npy", "photo.png"]
    assert Path("c.npy").read_bytes() == b"old"


def test_a_dry_run_counts_both_passes(prv2: Prv2) -> None:
    tiles = [json.loads(prv2("--dry-run", "--json", "--tta", tta)[1])["tiles"] for tta in ("auto", "flip")]
    assert tiles[1] == 2 * tiles[0]


def test_tiles_that_show_one_pass_at_half_size_are_no_two_predictions(
    refiner: Refiner, photo: np.ndarray, coarse: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settled parts would be taken from it by both, and seem to agree."""
    asked: list[bool] = []
    real = prepare.edges_after

    def edges_after(*given: Any) -> Any:
        asked.append(True)
        return real(*given)

    monkeypatch.setattr(prepare, "edges_after", edges_after)
    monkeypatch.setattr(prepare, "WIDE_EDGES", 0.0)
    subject = Subject(photo, given=GivenDepth(coarse, estimated=True))
    tta: Any
    for tta, settled in (("auto", True), ("none", False)):
        asked.clear()
        refiner.run([subject], RefineRequest.of(confidence=True, tta=tta, **GRID))
        assert bool(asked) == settled
