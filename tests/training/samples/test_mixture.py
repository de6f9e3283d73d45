"""Samples of a mixture of sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from rgbd_sets import write_set

from prv2cli.datasets.rgbd import Knowledge, RgbdSample
from prv2cli.errors import InputError
from prv2cli.training.config.mixture import MixtureData
from prv2cli.training.samples.collate import BROKEN, collate
from prv2cli.training.samples.mixture import MixedSamples, scene_data, show
from prv2cli.training.samples.scene_pool import ScenePool

pytest.importorskip("cv2")

PLAIN = {"gamma": 1, "brightness": 1, "contrast": 1, "saturation": 1, "balance": 1, "grey": 0, "blurred": 0}


def mixture(root: Path, **changes: Any) -> MixtureData:
    """Three sets, one of each kind."""
    write_set(root / "metres")
    write_set(root / "scale", scale=None)
    write_set(root / "affine", kind="inverse", scale=None)
    shares = (("metres", 0.5), ("scale", 0.3), ("affine", 0.2))
    raw: dict[str, Any] = {
        "root": root,
        "sets": [{"folder": folder, "share": share} for folder, share in shares],
        "sizes": [[64, 96], [96, 64]],
        "workers": 0,
    }
    return MixtureData.model_validate(raw | changes)


def test_samples_of_a_step_have_one_size_and_those_of_a_run_all(tmp_path: Path) -> None:
    samples = MixedSamples(mixture(tmp_path), 1, 40, together=4)
    batches = [collate([samples[4 * step + place] for place in range(4)]) for step in range(10)]
    assert {tuple(batch["image"].shape) for batch in batches} == {(4, 3, 64, 96), (4, 3, 96, 64)}
    for batch in batches:
        assert batch["inverse"].shape == batch["known"].shape == (4, 1, *batch["image"].shape[-2:])
        assert 0 <= batch["image"].min() <= batch["image"].max() <= 1
        assert torch.isfinite(batch["inverse"]).all()


def test_a_sample_depends_on_the_seed_and_its_number_alone(tmp_path: Path) -> None:
    data = mixture(tmp_path)
    first, second, other = (MixedSamples(data, seed, 40, 4) for seed in (1, 1, 2))
    assert torch.equal(first[7]["image"], (second[3], second[7])[1]["image"])
    assert not torch.equal(first[7]["image"], other[7]["image"])


def test_sets_come_by_their_shares(tmp_path: Path) -> None:
    samples = MixedSamples(mixture(tmp_path), 1, 300, 1)
    found = torch.cat([samples[index]["knowledge"] for index in range(300)])
    shares = torch.bincount(found, minlength=3) / 300
    assert shares.tolist() == pytest.approx([0.5, 0.3, 0.2], abs=0.08)


def test_depth_stays_with_its_photograph(tmp_path: Path) -> None:
    """Cut out, stretched, mirrored: red is brighter the nearer, and stays so."""
    data = mixture(tmp_path, camera=0, **PLAIN)
    samples = MixedSamples(data, 3, 30, 1)
    for index in range(30):
        sample = samples[index]
        red, inverse = sample["image"][0, 0], sample["inverse"][0, 0]
        known = sample["known"][0, 0]
        assert np.corrcoef(red[known], inverse[known])[0, 1] > 0.9


def test_what_is_shown_larger_is_nearer() -> None:
    rgb, inverse = np.zeros((96, 128, 3), np.uint8), np.full((48, 64), 0.5, np.float32)
    data = mixture_of_one(crop=(0.5, 0.5), stretch=1)
    for known, expected in ((Knowledge.METRES, 1.0), (Knowledge.UP_TO_SCALE, 0.5)):
        sample = RgbdSample("one", rgb, inverse, known)
        shown = show(sample, (96, 128), data, np.random.default_rng(0))
        assert shown.inverse.shape == (96, 128)
        np.testing.assert_allclose(shown.inverse, expected, rtol=1e-5)


def mixture_of_one(**changes: Any) -> MixtureData:
    return MixtureData.model_validate({"root": ".", "sets": [{"folder": "one", "share": 1}], **changes})


def test_colours_change_and_depth_does_not(tmp_path: Path) -> None:
    sample = RgbdSample(
        "one",
        np.full((64, 64, 3), (200, 100, 50), np.uint8),
        np.ones((64, 64), np.float32),
        Knowledge.UP_TO_SCALE,
    )
    means = []
    for seed in range(20):
        shown = show(sample, (64, 64), mixture_of_one(), np.random.default_rng(seed))
        assert (shown.inverse == 1).all()
        means.append(shown.rgb.mean((0, 1)))
    assert (np.std(means, axis=0) > 10).all()


def test_scenes_are_of_no_scale(tmp_path: Path) -> None:
    scenes = {"share": 100, "scenes": 2, "size": 64, "cache": tmp_path / "cache"}
    data = mixture(tmp_path, scenes=scenes)
    assert data.scenes is not None
    ScenePool(scene_data(data.scenes)).make(1)
    sample = MixedSamples(data, 1, 4, 1)[0]
    assert sample["knowledge"].tolist() == [Knowledge.UP_TO_SCALE]


def test_a_broken_picture_is_replaced_and_told(tmp_path: Path) -> None:
    data = mixture(tmp_path)
    for name in ("0000", "0001", "0002"):
        (tmp_path / "metres" / "rgb" / f"{name}.png").write_bytes(b"no picture")
    samples = MixedSamples(data, 1, 40, 1)
    told = [broken for index in range(40) for broken in samples[index][BROKEN]]
    assert {name for name, _ in told} == {"metres/0000", "metres/0001", "metres/0002"}
    for folder in ("metres", "scale", "affine"):
        for path in (tmp_path / folder / "rgb").iterdir():
            path.write_bytes(b"no picture")
    with pytest.raises(InputError, match="20 samples in a row"):
        samples[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sizes": [[10**400, 64]]}, r"(?s)sizes.*less than or equal to"),
        ({"sizes": [[100, 64]]}, r"\[100, 64\]: both sides must be multiples of 32; \[96, 64\] would do"),
        ({"crop": [0.9, 0.4]}, "crop must be two numbers"),
        ({"sets": [{"folder": "a", "share": 1}, {"folder": "a", "share": 2}]}, "stands there twice"),
        ({"sets": []}, "sets"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        mixture_of_one(**changes)
