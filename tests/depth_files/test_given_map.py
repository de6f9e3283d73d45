"""Maps that are to be refined: 8-bit pictures, what a 0 means, which file is refused and how."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import phone_photos as phone
import pytest
from image_files import png16
from PIL import Image, ImageOps

from prv2cli.depth_files.given_map import GivenMap, parse_invalid, read_given, read_inside
from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.depth_files.ours.write import write_depth
from prv2cli.depth_files.read import read_depth
from prv2cli.errors import InputError, UsageError

LEVELS = np.linspace(0, 255, 48 * 64).reshape(48, 64).round().astype(np.uint8)


def _saved(folder: Path, name: str, mode: str = "L", **options: Any) -> Path:
    path = folder / name
    image = Image.fromarray(LEVELS)
    image.convert(mode).save(path, **options)
    return path


@pytest.mark.parametrize("name", ["map.png", "map.jpg", "map.webp"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_grey_pictures_are_relative_maps(folder: Path, name: str, mode: str) -> None:
    found = read_given(_saved(folder, name, mode), kind="inverse")
    assert (found.kind, found.unit) == ("inverse", "relative")
    assert np.abs(found.values - LEVELS).mean() < 2
    assert not np.isnan(found.values).any()  # 0 is far, no hole
    assert "8-bit" in found.notes[0]
    far = int((found.values <= 0).sum())
    assert [note.split(": ")[1] for note in found.notes[1:]] == (
        [f"{far} pixels of 0 or less are the farthest"] if far else []
    )
    assert found.half_step >= 0.5


def test_lossy_pictures_may_be_further_off(folder: Path) -> None:
    steps = [
        read_given(_saved(folder, f"{quality}.jpg", quality=quality), kind="inverse").half_step
        for quality in (95, 60)
    ]
    assert read_given(_saved(folder, "map.png"), kind="inverse").half_step == 0.5
    assert 0.5 < steps[0] < steps[1]


def test_a_palette_of_greys_will_do(folder: Path) -> None:
    assert np.array_equal(read_given(_saved(folder, "map.png", "P"), kind="depth").values, LEVELS)


@pytest.mark.parametrize("name", ["map.jpg", "map.png", "map.webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_as_exif_says(folder: Path, name: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    path = _saved(folder, name, exif=exif, quality=95)
    with Image.open(path) as image:
        upright = np.asarray(ImageOps.exif_transpose(image).convert("L"), np.float32)
    np.testing.assert_array_equal(read_given(path, kind="inverse").values, upright)


def test_transparent_pixels_are_holes(folder: Path) -> None:
    alpha = np.full(LEVELS.shape, 255, np.uint8)
    alpha[10:20, 30:] = 0
    alpha[40] = 1  # is there, though hardly to be seen
    Image.merge("LA", (Image.fromarray(LEVELS), Image.fromarray(alpha))).save(folder / "la.png")
    found = read_given(folder / "la.png", kind="inverse")
    np.testing.assert_array_equal(np.isnan(found.values), alpha == 0)
    assert any(f"{(alpha == 0).sum()} transparent pixels" in note for note in found.notes)
    found = read_given(_saved(folder, "key.png", transparency=7), kind="inverse")
    np.testing.assert_array_equal(np.isnan(found.values), LEVELS == 7)
    Image.merge("LA", (Image.fromarray(LEVELS), Image.new("L", (64, 48), 255))).save(folder / "opaque.png")
    assert not np.isnan(read_given(folder / "opaque.png", kind="inverse").values).any()


def test_a_flag_that_overrules_the_file_is_told(folder: Path) -> None:
    metadata = DepthMetadata(software="prv2cli", unit="metre", scale=1000.0, invalid=0.0)
    write_depth(folder / "own.png", LEVELS + 1.0, metadata, scale=100)
    assert not any("says" in note for note in read_given(folder / "own.png").notes)
    assert not any("says" in note for note in read_given(folder / "own.png", scale=100).notes)
    (told,) = read_given(folder / "own.png", scale=50).notes
    assert told.endswith(
        "own.png: it says metre at a scale of 100 of itself, and is read as metre at a scale of 50, as asked"
    )
    assert "is read as relative" in read_given(folder / "own.png", relative=True).notes[0]
    assert "is read as metre at a scale of 50" in read_depth(folder / "own.png", scale=50).notes[0]


def test_near_may_be_bright_or_dark_and_must_be_said(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"--coarse-kind inverse .*--coarse-kind depth"):
        read_given(_saved(folder, "map.png"))


def test_a_picture_with_a_scale_is_metric_and_its_zeros_are_holes(folder: Path) -> None:
    found = read_given(_saved(folder, "map.png"), kind="depth", scale=10)
    assert found.unit == "metre"
    assert found.half_step == pytest.approx(0.05)
    assert np.nanmax(found.values) == pytest.approx(25.5)
    assert np.array_equal(np.isnan(found.values), LEVELS == 0)


def test_colours_are_refused(folder: Path) -> None:
    path = folder / "map.png"
    rgb = np.stack([LEVELS, 255 - LEVELS, LEVELS // 2], axis=-1)
    Image.fromarray(rgb).save(path)
    with pytest.raises(InputError, match="coloured picture"):
        read_given(path, kind="inverse")


@pytest.mark.parametrize(
    ("invalid", "holes"),
    [(None, []), ("none", []), ("zero", [0.0]), (-1.0, [-1.0])],
)
def test_what_is_no_value_in_a_relative_map(folder: Path, invalid: float | None, holes: list[float]) -> None:
    values = np.array([[-1.0, 0.0, 2.0], [3.0, np.nan, 5.0]], np.float32)
    np.save(folder / "map.npy", values)
    found = read_given(folder / "map.npy", kind="inverse", relative=True, invalid=invalid)
    assert np.array_equal(np.isnan(found.values), np.isnan(values) | np.isin(values, holes))


@pytest.mark.parametrize("invalid", [None, "zero", -1.0])
def test_naming_one_invalid_number_does_not_make_values_of_the_others(
    folder: Path, invalid: float | str | None
) -> None:
    values = np.random.default_rng(0).uniform(1, 9, (24, 32)).astype(np.float32)
    values[:4], values[4], values[5] = 1e10, 0, -1
    np.save(folder / "map.npy", values)
    found = read_given(folder / "map.npy", scale=1, invalid=invalid)  # type: ignore[arg-type]
    assert np.array_equal(np.isnan(found.values), np.arange(24)[:, None].repeat(32, 1) < 6)


def test_a_stray_value_is_no_value_of_a_relative_map(folder: Path) -> None:
    values = np.random.default_rng(0).uniform(0, 1, (24, 32)).astype(np.float32)
    values[3, 5] = 1e5
    np.save(folder / "map.npy", values)
    found = read_given(folder / "map.npy", kind="inverse", relative=True)
    assert np.argwhere(np.isnan(found.values)).tolist() == [[3, 5]]
    assert any("1 pixel more than 10 times the range" in note for note in found.notes)
    assert not np.isnan(
        read_given(folder / "map.npy", kind="inverse", relative=True, invalid="none").values
    ).any()


def test_below_zero_is_no_value_in_metres(folder: Path) -> None:
    np.save(folder / "map.npy", np.array([[-1.0, 0.0, 2.0]], np.float32))
    assert np.isnan(read_given(folder / "map.npy", scale=1).values).tolist() == [[True, True, False]]


def test_sixteen_bits_are_read_as_before(folder: Path) -> None:
    Image.fromarray(LEVELS.astype(np.uint16) * 100).save(folder / "map.png")
    found = read_given(folder / "map.png", scale=1000)
    assert found.half_step == 0
    holes = int((LEVELS == 0).sum())
    assert [note.split(": ")[1] for note in found.notes] == [
        f"{holes} of its {LEVELS.size} pixels have no depth"
    ]
    assert np.nanmax(found.values) == pytest.approx(25.5)
    with pytest.raises(UsageError, match="--coarse-scale 256"):
        read_given(folder / "map.png")


def test_sixteen_bits_with_alpha_keep_them_all(folder: Path) -> None:
    """Pillow's modes have no such picture: it opens it as one of 8 bits."""
    levels = (LEVELS.astype(np.uint16) + 1) * 100
    alpha = np.full_like(levels, 65535)
    (folder / "map.png").write_bytes(png16(np.dstack([levels, alpha])).getvalue())
    np.testing.assert_allclose(read_given(folder / "map.png", scale=1000).values, levels / 1000, rtol=1e-6)


@pytest.mark.parametrize("name", ["map.png", "map.tif"])
def test_sixteen_bits_of_grey_stored_as_colour_keep_them_all(folder: Path, name: str) -> None:
    """As Blender and compositors save it; the file is OpenCV's."""
    levels = (LEVELS.astype(np.uint16) + 1) * 100
    cv2 = pytest.importorskip("cv2")
    colours = np.dstack([levels] * 3)
    assert cv2.imwrite(str(folder / name), colours)
    np.testing.assert_allclose(read_given(folder / name, scale=1000).values, levels / 1000, rtol=1e-6)
    colours[5, 7, 2] += 1
    cv2.imwrite(str(folder / name), colours)
    with pytest.raises(InputError, match=f"{name}: a colour image"):
        read_given(folder / name, scale=1000)


@pytest.mark.parametrize("name", ["map.png", "map.jpg", "map.webp"])
def test_a_picture_that_is_cut_short_is_told_as_such(folder: Path, name: str) -> None:
    path = _saved(folder, name)
    whole = path.read_bytes()
    for length in (60, len(whole) // 2):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=f"{name}: damaged or cut short"):
            read_given(path, kind="inverse")


def test_broken_exif_data_do_no_harm(folder: Path) -> None:
    path = _saved(folder, "map.png", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    np.testing.assert_array_equal(read_given(path, kind="inverse").values, LEVELS)


def test_no_value_at_all(folder: Path) -> None:
    np.save(folder / "map.npy", np.zeros((3, 4), np.float32))
    with pytest.raises(InputError, match="no pixel holds a value"):
        read_given(folder / "map.npy", scale=1)


def test_the_flag_is_a_number_or_a_word() -> None:
    assert [parse_invalid(text) for text in (None, "zero", "none", "255")] == [None, "zero", "none", 255.0]
    with pytest.raises(UsageError, match="--coarse-invalid black"):
        parse_invalid("black")


def _inside(**flags: Any) -> GivenMap:
    """Of levels that are 2 to 3 metres, by what the flags make of them."""
    said: dict[str, Any] = {"Format": "RangeLinear", "Near": "2", "Far": "3", "Units": "m"}
    data = phone.gdepth(phone.encoded(phone.levels()), **{**said, **flags.pop("said", {})})
    return read_inside(io.BytesIO(data), "p.jpg", **flags)


def test_depth_inside_a_photograph() -> None:
    found = _inside()
    assert (found.kind, found.unit, found.origin) == ("depth", "metre", "GDepth, from the photograph")
    assert (float(found.values.min()), float(found.values.max())) == (2.0, 3.0)
    assert found.notes == ("p.jpg: refining the depth in it (GDepth, 32x24, metres)",)
    assert found.half_step == pytest.approx(0.5 / 255)


def test_flags_win_over_what_a_photograph_says_of_its_depth() -> None:
    found = _inside(scale=1000.0)
    assert (found.unit, float(found.values.max())) == ("metre", pytest.approx(0.003))
    found = _inside(relative=True)
    assert found.unit == "relative"
    assert "calls itself depth in metres, and is read as depth without a unit, as asked" in found.notes[1]
    found = _inside(kind="inverse")
    assert (found.kind, found.unit) == ("inverse", "metre")
    assert "is read as inverse in metres" in found.notes[1]
    with pytest.raises(UsageError, match="--coarse-scale 0"):
        _inside(scale=0.0)


def test_what_a_photograph_does_not_say_is_told_and_can_be_said() -> None:
    unsaid: dict[str, Any] = {"said": {"Units": ""}}
    assert (
        "p.jpg: its depth does not say its unit (--coarse-scale 1 if it is metres)" in _inside(**unsaid).notes
    )
    answered = _inside(**unsaid, scale=1.0)
    assert (answered.unit, len(answered.notes)) == ("metre", 1)


@pytest.mark.parametrize(("invalid", "level"), [(None, None), ("none", None), ("zero", 0), (255.0, 255)])
def test_invalid_levels_inside_a_photograph(invalid: Any, level: int | None) -> None:
    found = _inside(invalid=invalid)
    expected = np.zeros((24, 32), bool) if level is None else phone.levels() == level
    assert np.array_equal(np.isnan(found.values), expected)
    holes = int(expected.sum())
    assert [note for note in found.notes if "have no depth" in note] == (
        [f"p.jpg: {holes} of its 768 pixels have no depth"] if holes else []
    )
