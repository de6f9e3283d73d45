"""Procedural scenes: reproducible, exact, and of the content that a refiner has to learn from."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from prv2cli.errors import MissingExtraError
from prv2cli.scenes.make import Scene, Style, _reduce_depth, make_scene

SIZE = 192
SEEDS = range(8)
_EDGE = 0.1  # log-depth: a step of ten per cent
_STRONG = 25  # of 255: a clear edge in the picture


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    pytest.importorskip("cv2")
    return [make_scene((5, seed), size=SIZE) for seed in SEEDS]


def _digest(scene: Scene) -> str:
    return hashlib.sha256(scene.rgb.tobytes() + scene.depth.tobytes()).hexdigest()


def _steps(scene: Scene) -> np.ndarray:
    """Signed change of log-depth between horizontal neighbours, (H, W - 1)."""
    return np.diff(np.log(scene.depth), axis=1)


def _contrast(scene: Scene) -> np.ndarray:
    """Largest change of a colour channel between horizontal neighbours, (H, W - 1)."""
    return np.abs(np.diff(scene.rgb.astype(np.int16), axis=1)).max(-1)


def test_shapes_and_types(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert scene.rgb.shape == (SIZE, SIZE, 3)
        assert scene.rgb.dtype == np.uint8
        assert scene.depth.shape == (SIZE, SIZE)
        assert scene.depth.dtype == np.float32


def test_depth_is_positive_and_finite(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert np.isfinite(scene.depth).all()
        assert scene.depth.min() > 0
        assert scene.depth.max() <= 400


def test_pictures_are_not_blank(scenes: list[Scene]) -> None:
    assert np.median([scene.rgb.std() for scene in scenes]) > 20
    assert np.median([np.log(scene.depth).std() for scene in scenes]) > 0.2


def test_same_seed_same_scene_whatever_came_before(scenes: list[Scene]) -> None:
    assert _digest(make_scene((5, 3), size=SIZE)) == _digest(scenes[3])


def test_same_scene_in_another_process(scenes: list[Scene]) -> None:
    code = (
        "import hashlib; from prv2cli.scenes.make import make_scene;"
        f"s = make_scene((5, 3), size={SIZE});"
        "print(hashlib.sha256(s.rgb.tobytes() + s.depth.tobytes()).hexdigest())"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == _digest(scenes[3])


def test_different_seeds_differ(scenes: list[Scene]) -> None:
    assert len({_digest(scene) for scene in scenes}) == len(scenes)


def test_global_random_state_is_neither_read_nor_changed(scenes: list[Scene]) -> None:
    np.random.seed(1)
    before = np.random.get_state()[1].copy()  # type: ignore[index]
    assert _digest(make_scene((5, 0), size=SIZE)) == _digest(scenes[0])
    assert np.array_equal(before, np.random.get_state()[1])  # type: ignore[index]


def test_thin_things_are_common(scenes: list[Scene]) -> None:
    """Something three pixels wide at most is ten per cent nearer than what is on both its sides."""
    share = []
    for scene in scenes:
        depth = np.log(scene.depth)
        beside = np.minimum(depth[:, :-4], depth[:, 4:])  # the nearer of the two sides
        between = depth[:, 1:-3], depth[:, 2:-2], depth[:, 3:-1]
        share.append(float(np.mean(beside - np.minimum.reduce(between) > _EDGE)))
    assert np.mean(np.array(share) > 0.001) >= 0.5
    assert np.mean(share) > 0.005


def test_there_are_edges_of_texture_alone(scenes: list[Scene]) -> None:
    """Strong contrast where depth is smooth: painted patterns, cast shadows, patches of light."""
    share = [float(np.mean(_contrast(scene)[np.abs(_steps(scene)) < 0.01] > _STRONG)) for scene in scenes]
    assert np.median(share) > 0.01


def test_depth_edges_are_seen_in_the_picture_and_where_they_are(scenes: list[Scene]) -> None:
    """Contrast at depth edges is far above the rest, and it falls when the picture moves by four pixels."""
    at_edges, elsewhere, moved = [], [], []
    for scene in scenes:
        edge = np.abs(_steps(scene)) > _EDGE
        contrast = _contrast(scene)
        at_edges.append(contrast[edge].mean())
        elsewhere.append(contrast[~edge].mean())
        moved.append(np.roll(contrast, 4, axis=1)[edge].mean())
    assert np.mean(at_edges) > 3 * np.mean(elsewhere)
    assert np.mean(at_edges) > 2 * np.mean(moved)


def test_a_still_life_stands_close_together() -> None:
    """Its things differ less in depth than those of other scenes, and most of them are solid."""
    pytest.importorskip("cv2")

    def median_range(style: Style) -> float:
        scenes = [make_scene((5, seed), SIZE, style=style) for seed in SEEDS]
        return float(np.median([np.ptp(np.percentile(np.log(scene.depth), (2, 98))) for scene in scenes]))

    assert median_range("still-life") < 0.6 * median_range("any")


def test_depth_is_reduced_without_averaging() -> None:
    """Half a pixel's cover gives the near surface, a quarter the far one; never anything between."""
    depth = np.full((4, 4), 8, np.float32)
    depth[:, 0] = 2  # half of the pixels of the first column
    depth[0, 2] = 2  # a quarter of one pixel
    assert _reduce_depth(depth, 2).tolist() == [[2, 8], [2, 8]]
    assert _reduce_depth(depth, 1).tolist() == depth.tolist()


def test_supersampling_can_be_turned_off() -> None:
    pytest.importorskip("cv2")
    scene = make_scene(1, size=64, supersample=1)
    assert scene.rgb.shape == (64, 64, 3)
    assert scene.depth.shape == (64, 64)


def test_missing_opencv_is_said_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError, match=r"scene maker.*prv2cli\[train\]"):
        make_scene(0, size=32)


def test_module_imports_without_opencv() -> None:
    code = "import sys; sys.modules['cv2'] = None; import prv2cli.scenes.make"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_photograph_keeps_the_picture_and_is_reproducible(scenes: list[Scene]) -> None:
    from prv2cli.training.samples.augment import photograph

    for seed, scene in enumerate(scenes):
        photo = photograph(scene.rgb, np.random.default_rng(seed))
        assert photo.shape == scene.rgb.shape
        assert photo.dtype == np.uint8
        assert np.array_equal(photo, photograph(scene.rgb, np.random.default_rng(seed)))
        assert not np.array_equal(photo, scene.rgb)
        # Still the same picture: brightness changes, structure stays.
        assert np.corrcoef(photo.mean(-1).ravel(), scene.rgb.mean(-1).ravel())[0, 1] > 0.8


def test_photograph_needs_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    from prv2cli.training.samples.augment import photograph

    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError, match=r"prv2cli\[train\]"):
        photograph(np.zeros((8, 8, 3), np.uint8), np.random.default_rng(0))
