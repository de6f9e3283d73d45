"""What lies beside each depth map of a batch: names, clashes, when it counts as done."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_refiner import FakeRefiner
from PIL import Image

from prv2cli.depth_files.ours.encoding import Encoding
from prv2cli.depth_files.ours.signature import signature
from prv2cli.errors import UsageError
from prv2cli.export.targets import parse_target
from prv2cli.files.protected import Protected
from prv2cli.jobs.batch import BatchSettings, Job
from prv2cli.jobs.claims import Claims
from prv2cli.jobs.companions import Companions, without_clashes
from prv2cli.jobs.engines.local import run_batch
from prv2cli.refine.request import RefineRequest

BOTH = Companions("{stem}_sure.npy", "{stem}_look.png")
EXPORTS = ("{stem}.glb", "{stem}.obj", "normals:{stem}_n.png")


def _exports(*names: str, preview: str | None = None) -> Companions:
    return Companions(preview=preview, exports=tuple(parse_target(name) for name in names))


SETTINGS = BatchSettings(Encoding("tiff"), RefineRequest(confidence=True), companions=BOTH)


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    for name in ("a.png", "b.png"):
        Image.fromarray(np.full((24, 32, 3), 90, np.uint8)).save(tmp_path / name)
    return [Job(tmp_path / f"{stem}.png", tmp_path / "out" / f"{stem}.tif") for stem in "ab"]


def _run(jobs: list[Job], settings: BatchSettings = SETTINGS) -> list[str]:
    refiner: Any = FakeRefiner()
    root = jobs[0].target.parent
    return [outcome.state for outcome in run_batch(jobs, refiner, settings, Claims(root, expires=5))]


def test_they_lie_beside_the_depth_map(jobs: list[Job]) -> None:
    assert _run(jobs) == ["done"] * 2
    names = ["a.tif", "a_look.png", "a_sure.npy", "b.tif", "b_look.png", "b_sure.npy"]
    assert sorted(path.name for path in jobs[0].target.parent.iterdir()) == names
    assert _run(jobs) == ["skipped"] * 2


@pytest.mark.parametrize("name", ["a_look.png", "a_sure.npy"])
def test_a_depth_map_without_one_is_made_again(jobs: list[Job], name: str) -> None:
    _run(jobs)
    path = jobs[0].target.with_name(name)
    path.unlink()
    assert sorted(_run(jobs)) == ["done", "skipped"]
    assert path.exists()


@pytest.mark.parametrize(
    "name",
    ["a_look.png", "a_look.jpg", "a_sure.tif", "a_sure.png", "a.glb", "a.ply", "a_n.png"],
)
def test_one_that_is_cut_off_is_made_again(jobs: list[Job], name: str) -> None:
    template = name.replace("a", "{stem}", 1)
    looks, sure = name.startswith("a_look"), name.startswith("a_sure")
    exports = () if looks or sure else (f"normals:{template}" if "_n" in name else template,)
    companions = Companions(
        template if sure else None, template if looks else None, tuple(map(parse_target, exports))
    )
    request = RefineRequest(confidence=sure, focal_px=30.0)
    settings = BatchSettings(Encoding("tiff"), request, companions=companions)
    assert _run(jobs, settings) == ["done"] * 2
    assert _run(jobs, settings) == ["skipped"] * 2
    path = jobs[0].target.with_name(name)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 9])
    assert sorted(_run(jobs, settings)) == ["done", "skipped"]
    assert path.read_bytes() == whole


def test_one_that_is_older_or_of_other_settings_is_made_again(jobs: list[Job]) -> None:
    _run(jobs)
    look, sure = (jobs[0].target.with_name(name) for name in ("a_look.png", "a_sure.npy"))
    os.utime(look, (1, 1))
    assert sorted(_run(jobs)) == ["done", "skipped"]
    sure.write_bytes(jobs[1].target.with_name("b_sure.npy").read_bytes())
    assert _run(jobs) == ["skipped"] * 2  # from the same bytes with the same settings
    other = BatchSettings(Encoding("tiff", scale=1000), RefineRequest(confidence=True), companions=BOTH)
    _run(jobs, other)
    sure.write_bytes(b"nothing")
    assert sorted(_run(jobs, other)) == ["failed", "skipped"]  # and not replaced: nobody knows whose it is


def test_exports_lie_there_too_and_are_made_again(jobs: list[Job]) -> None:
    request = RefineRequest(focal_px=30.0)
    settings = BatchSettings(Encoding("tiff"), request, companions=_exports(*EXPORTS))
    assert _run(jobs, settings) == ["done"] * 2
    names = ["a.glb", "a.mtl", "a.obj", "a.tif", "a_n.png", "a_texture.jpg"]
    assert sorted(path.name for path in jobs[0].target.parent.glob("a*")) == names
    assert _run(jobs, settings) == ["skipped"] * 2
    jobs[0].target.with_name("a.glb").unlink()
    os.utime(jobs[1].target.with_name("b_n.png"), (1, 1))
    assert _run(jobs, settings) == ["done"] * 2
    jobs[0].target.with_name("a.mtl").unlink()  # of what came with an .obj, too
    assert sorted(_run(jobs, settings)) == ["done", "skipped"]
    assert jobs[0].target.with_name("a.mtl").exists()
    jobs[0].target.with_name("a.glb").write_bytes(b"of another program")
    assert sorted(_run(jobs, settings)) == ["failed", "skipped"]
    assert jobs[0].target.with_name("a.glb").read_bytes() == b"of another program"


def test_exports_that_cannot_be_made_fail_and_keep_the_depth(jobs: list[Job]) -> None:
    settings = BatchSettings(
        Encoding("tiff"), companions=_exports("{stem}.glb")
    )  # nobody says the focal length
    assert _run(jobs, settings) == ["failed"] * 2
    assert [job.target.exists() for job in jobs] == [True, True]


def test_a_file_of_someone_else_is_kept(jobs: list[Job]) -> None:
    look = jobs[0].target.with_name("a_look.png")
    look.parent.mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(look)
    before = look.read_bytes()
    assert sorted(_run(jobs)) == ["done", "failed"]
    assert look.read_bytes() == before


def test_those_that_take_another_place_are_refused(tmp_path: Path) -> None:
    photo = tmp_path / "in.png"
    photo.write_bytes(b"x")
    protected = Protected()
    protected.add("a photograph", photo)
    jobs = [Job(Path(f"{stem}.jpg"), tmp_path / f"{stem}.tif") for stem in ("a", "a_sure", "in", "b")]
    kept, refused = without_clashes(jobs, Companions("{stem}_sure.tif", "{stem}.png"), protected)
    assert [job.source.stem for job in kept] == ["a_sure", "b"]
    assert [(job.source.stem, why.split("would replace ")[1].split(";")[0]) for job, why in refused] == [
        ("a", "that of another photograph"),
        ("in", "a photograph"),
    ]


@pytest.mark.parametrize(
    ("companions", "words"),
    [
        (Companions(preview="look.png"), "--preview look.png: every photograph would have the same"),
        (Companions(preview="{stem}.tif"), "a preview is a picture"),
        (Companions("{stem}_sure.bmp"), "--confidence {stem}_sure.bmp"),
        (Companions("{stem}.tif"), "--confidence {stem}.tif: that is the depth map itself"),
        (Companions("{stem}.png", "{stem}.png"), "--preview {stem}.png: that is the file of --confidence"),
        (Companions(preview="looks/{stem}.png"), "name no folder"),
        (_exports("scene.glb"), "--export scene.glb: every photograph would have the same; use {stem} in it"),
        (_exports("out/{stem}.glb"), "name no folder"),
        (_exports("{stem}.exr", "{stem}.exr"), "--export {stem}.exr: that is the file of --export"),
        (_exports("{stem}.obj", "picture:{stem}.png", preview="{stem}.png"), "that is the file of --preview"),
    ],
)
def test_templates_that_cannot_work(companions: Companions, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        companions.check(Encoding("tiff"), ".tif")
    assert words in str(caught.value)
    BOTH.check(Encoding("tiff"), ".tif")


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (_exports("picture:{stem}_x.png"), _exports("normals:{stem}_x.png")),
        (_exports("normals:{stem}_x.png"), _exports("picture:{stem}_x.png")),
        (_exports("picture:{stem}_x.png"), _exports(preview="{stem}_x.png")),
        (_exports(preview="{stem}_x.png"), _exports("normals:{stem}_x.png")),
        (_exports("{stem}.exr"), _exports("normals:{stem}.exr")),
        (_exports("normals:{stem}.exr"), _exports("{stem}.exr")),
    ],
)
def test_one_of_another_kind_is_made_again(jobs: list[Job], first: Companions, then: Companions) -> None:
    """Its name does not tell what it holds: the file does."""
    settings = BatchSettings(Encoding("tiff"), RefineRequest(focal_px=30.0), companions=first)
    assert _run(jobs, settings) == ["done"] * 2
    assert _run(jobs, settings) == ["skipped"] * 2
    assert _run(jobs, replace(settings, companions=Companions())) == ["skipped"] * 2
    other = replace(settings, companions=then)
    assert _run(jobs, other) == ["done"] * 2
    assert _run(jobs, other) == ["skipped"] * 2


def test_one_that_does_not_say_its_kind_counts(jobs: list[Job]) -> None:
    """As those do that were made before they said it."""
    companions = _exports("picture:{stem}_x.png", preview="{stem}_y.png")
    settings = BatchSettings(Encoding("tiff"), companions=companions)
    _run(jobs, settings)
    for name in ("a_x.png", "a_y.png"):
        picture = Image.new("RGB", (32, 24))
        picture.save(jobs[0].target.with_name(name), **signature("PNG"))
    assert _run(jobs, settings) == ["skipped"] * 2
