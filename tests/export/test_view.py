"""What is read for an export: the focal length and whose word it is, photographs that fit, refusals before any work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from disk_arrays import on_disk
from PIL import Image
from views import FOCAL, camera, colours, view_of

from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.depth_files.ours.write import write_depth
from prv2cli.errors import InputError, OutputError, UsageError
from prv2cli.export.camera import choose_focal, choose_principal
from prv2cli.export.targets import Target, parse_target
from prv2cli.export.view import read_view
from prv2cli.export.write import Options, export

MESH = [Target("mesh", Path("a.glb"))]
PICTURE = [parse_target("picture:a.png")]
SIZE = (20, 30)


@pytest.fixture
def depth(tmp_path: Path) -> Path:
    """20 x 30 in metres, which does not say its focal length."""
    return saved(tmp_path / "depth.npy", DepthMetadata())


def saved(path: Path, metadata: DepthMetadata, size: tuple[int, int] = SIZE) -> Path:
    write_depth(path, np.full(size, 2.0, np.float32), metadata)
    return path


def photo(
    path: Path, size: tuple[int, int] = SIZE, *, film_mm: float | None = None, orientation: int = 1
) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    if film_mm:
        exif.get_ifd(0x8769)[0xA405] = film_mm
    Image.fromarray(colours(*size)).save(path, exif=exif)
    return path


# --- the camera -------------------------------------------------------------------------------------------


def test_a_flag_comes_before_the_file_and_the_file_before_the_photograph() -> None:
    said = DepthMetadata(focal_px=50.0, focal_origin="estimated")
    for how, wanted in (
        ({"focal_px": 70.0, "metadata": said, "exif_px": 60.0}, (70.0, "given")),
        ({"metadata": said, "exif_px": 60.0}, (50.0, "estimated")),
        ({"metadata": DepthMetadata(), "exif_px": 60.0}, (60.0, "exif")),
        ({"fov": 90.0}, (pytest.approx(15.0), "given")),
        ({}, None),
    ):
        flags: Any = how
        assert choose_focal(30, **flags) == wanted


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"focal_px": 0.0}, "--focal-px 0.0: it must be a positive number"),
        ({"focal_px": float("nan")}, "--focal-px nan"),
        ({"fov": 180.0}, "--fov 180.0: it must be between 0 and 180"),
        ({"fov": 50.0, "focal_px": 5.0}, "--focal-px and --fov exclude each other"),
    ],
)
def test_cameras_that_cannot_be_are_refused(how: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        choose_focal(30, **how)  # type: ignore[arg-type]


def test_the_principal_point_is_the_middle_unless_somebody_says_otherwise() -> None:
    said = DepthMetadata(extra={"principal_px": [10, 8.5]})
    assert choose_principal(30, 20, None) == (15, 10)
    assert choose_principal(30, 20, None, said) == (10, 8.5)
    assert choose_principal(30, 20, (14.0, 9.0), said) == (14, 9)
    assert choose_principal(30, 20, None, DepthMetadata(extra={"principal_px": ["x", None]})) == (15, 10)
    with pytest.raises(UsageError, match=r"--principal 900,9: far outside the map of 30 x 20"):
        choose_principal(30, 20, (900, 9))


def test_the_ray_through_the_principal_point_is_straight() -> None:
    rays = camera(20, 30).rays()
    assert (rays.x[14] + rays.x[15], rays.y[9] + rays.y[10]) == (0, 0)
    assert rays.x[15] == pytest.approx(0.5 / FOCAL)
    thinned = camera(20, 30).rays(3)
    np.testing.assert_array_equal(thinned.x, rays.x[1::3])
    assert thinned.spacing == pytest.approx(3 * rays.spacing)


def test_exif_counts_in_pixels_of_the_map(depth: Path, tmp_path: Path) -> None:
    """36 mm of 35 mm film on a photograph twice as large as the map."""
    large = photo(tmp_path / "p.jpg", (40, 60), film_mm=36)
    view = read_view(depth, large, targets=MESH)
    assert view.camera is not None
    assert view.camera.focal.origin == "exif"
    assert view.camera.focal.pixels == pytest.approx(36 * np.hypot(30, 20) / np.hypot(36, 24), rel=1e-6)
    assert view.texture is not None
    assert view.texture.shape == (40, 60, 3)
    assert view.rgb is not None
    assert view.rgb.shape == (20, 30, 3)


# --- refusals ---------------------------------------------------------------------------------------------


def test_nobody_says_the_focal_length(depth: Path, tmp_path: Path) -> None:
    for photograph in (None, photo(tmp_path / "p.jpg")):
        with pytest.raises(
            UsageError, match=r"-o a\.glb: nobody says the focal length of .*--focal-px N.*--fov N"
        ):
            read_view(depth, photograph, targets=MESH)
    view = read_view(depth, targets=PICTURE)
    assert (view.camera, view.metadata.unit, view.notes) == (None, "metre", ())


def test_a_relative_map_is_a_picture_or_needs_a_scale(tmp_path: Path) -> None:
    relative = saved(tmp_path / "r.npy", DepthMetadata(unit="relative", focal_px=100.0))
    with pytest.raises(
        UsageError, match=r"r\.npy is relative, .* \(--scale N\), or make a picture \(--picture\)"
    ):
        read_view(relative, targets=[*PICTURE, *MESH])
    assert read_view(relative, targets=PICTURE).metadata.unit == "relative"
    scaled = read_view(relative, targets=MESH, scale=4)
    assert scaled.metadata.unit == "metre"
    assert (scaled.metres() == 0.5).all()


def test_a_file_of_others_says_no_unit(tmp_path: Path) -> None:
    path = tmp_path / "o.npy"
    np.save(path, np.full(SIZE, 2.0, np.float32))
    with pytest.raises(UsageError, match=r"does not say its unit.*--scale 1"):
        read_view(path, targets=MESH, focal_px=50)
    assert read_view(path, targets=PICTURE).shape == SIZE


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((20, 20), "over the depth map's 30 x 20: the aspects differ by more than 2%; give the photograph"),
        ((30, 20), "as if it were turned: .*; turn one of them"),
    ],
)
def test_a_photograph_of_another_shape(
    depth: Path, tmp_path: Path, size: tuple[int, int], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        read_view(depth, photo(tmp_path / "p.jpg", size), targets=MESH, focal_px=50)


def test_a_map_whose_sides_a_network_rounded(tmp_path: Path) -> None:
    """392 of 388.5 rows: multiples of 14. What refine and view take, export takes."""
    path = saved(tmp_path / "n.npy", DepthMetadata(), (392, 518))
    picture = photo(tmp_path / "p.jpg", (750, 1000))
    assert read_view(path, picture, targets=MESH, focal_px=50).colours() is not None
    few = saved(tmp_path / "few.npy", DepthMetadata(), (5, 7))
    with pytest.raises(UsageError, match="do not lie over the depth map's 7 x 5"):
        read_view(few, photo(tmp_path / "q.jpg", (5, 8)), targets=MESH, focal_px=50)


def test_a_photograph_stored_on_its_side_lies_upright_over_the_map(depth: Path, tmp_path: Path) -> None:
    turned = tmp_path / "t.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(colours(*SIZE))).save(turned, exif=exif)
    view = read_view(depth, turned, targets=MESH, focal_px=50)
    assert view.rgb is not None
    np.testing.assert_array_equal(view.rgb, colours(*SIZE))


def test_a_confidence_must_be_one_and_fit(depth: Path, tmp_path: Path) -> None:
    path = tmp_path / "c.npy"
    about = DepthMetadata(unit="fraction", kind="confidence")
    write_depth(path, np.full(SIZE, 0.25, np.float32), about)
    view = read_view(depth, targets=MESH, focal_px=50, confidence=path)
    assert view.confidence is not None
    assert (view.confidence == 0.25).all()
    write_depth(path, np.full((3, 3), 0.25, np.float32), about)
    with pytest.raises(InputError, match=r"c\.npy: 3 x 3 pixels, and the depth map has 30 x 20"):
        read_view(depth, targets=MESH, focal_px=50, confidence=path)
    with pytest.raises(InputError, match="not a confidence map"):
        read_view(depth, targets=MESH, focal_px=50, confidence=depth)


def test_integers_are_read_without_their_steps(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(1.0, 1.2, 60, dtype=np.float32), (50, 1))
    path = tmp_path / "d.png"
    write_depth(path, ramp, DepthMetadata(focal_px=50.0), scale=100)
    view = read_view(path, targets=MESH)
    stored = np.round(ramp * 100) / 100
    assert view.half_step == pytest.approx(0.005)
    assert np.abs(view.depth - ramp).mean() < 0.5 * np.abs(stored - ramp).mean()
    assert (read_view(path, targets=PICTURE).depth == stored.astype(np.float32)).all()


# --- all or none ------------------------------------------------------------------------------------------


def test_where_one_cannot_be_written_none_is(tmp_path: Path) -> None:
    targets = [Target("points", tmp_path / "a.ply"), Target("mesh", tmp_path / "missing" / "b.glb")]
    with pytest.raises(OutputError, match="its folder does not exist"):
        export(view_of(np.full((4, 5), 2.0)), targets)
    assert list(tmp_path.iterdir()) == []


def test_what_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    calls = []

    def stop_at_the_second() -> None:
        calls.append(list(tmp_path.glob("*.ply")))
        if len(calls) == 2:
            raise KeyboardInterrupt

    targets = [Target("points", tmp_path / "a.ply"), Target("points", tmp_path / "b.ply")]
    with pytest.raises(KeyboardInterrupt):
        export(view_of(np.full((4, 5), 2.0)), targets, on_target=stop_at_the_second)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.glb", "a.ply", "normals:a.png", "picture:a.png"])
def test_a_view_on_disk_gives_the_same_file(tmp_path: Path, name: str) -> None:
    depth = np.linspace(1, 1.5, 40 * 60, dtype=np.float32).reshape(40, 60)
    depth[3:9, 5:20] = np.nan
    view = view_of(depth, colours(40, 60))
    rgb: Any = on_disk(colours(40, 60), tmp_path)
    stored: Any = on_disk(depth, tmp_path)
    target = parse_target(name)
    files = []
    for k, one in enumerate((view, replace(view, depth=stored, rgb=rgb, texture=rgb))):
        place = replace(target, path=tmp_path / f"{k}{target.suffix}")
        export(one, [place], Options(max_faces=1000))
        files.append(place.path.read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(max_edge=1.0), "--max-edge 1: a ratio of depths above 1"),
        (Options(percentiles=(50, 50)), "--percentiles 50,50: two numbers from 0 to 100"),
    ],
)
def test_options_that_cannot_work(options: Options, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        options.check()
