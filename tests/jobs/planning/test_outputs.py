"""Where the depth of each photograph goes: two never to one place, none to that of an input."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from prv2cli.files.protected import Protected, place_key
from prv2cli.jobs.planning.outputs import Planned, Shard, plan

OUT = Path("out")


def _plan(
    *photographs: tuple[str, str], template: str = "{stem}", protected: Protected | None = None
) -> Planned:
    return plan([(Path(p), Path(base)) for p, base in photographs], OUT, template, ".tif", protected)


def _targets(planned: Planned) -> list[str]:
    return [str(job.target.relative_to(OUT)) for job in planned.jobs]


@pytest.mark.parametrize(
    ("photographs", "targets"),
    [
        ([("one/a.jpg", "one"), ("one/b.jpg", "one")], ["a.tif", "b.tif"]),
        (
            [("one/a.jpg", "one"), ("one/a.png", "one"), ("one/b.png", "one")],
            ["a_jpg.tif", "a_png.tif", "b.tif"],
        ),
        (
            [("one/a.jpg", "one"), ("two/a.jpg", "two"), ("two/b.jpg", "two")],
            ["one/a.tif", "two/a.tif", "b.tif"],
        ),
        ([("x/cam/a.jpg", "x/cam"), ("y/cam/a.jpg", "y/cam")], ["x/cam/a.tif", "y/cam/a.tif"]),
        ([("a.jpg", "."), ("a.png", "."), ("a_jpg.bmp", ".")], ["a_jpg.tif", "a_png.tif", "a_jpg_bmp.tif"]),
    ],
)
def test_names_are_as_long_as_they_need(photographs: list[tuple[str, str]], targets: list[str]) -> None:
    planned = _plan(*photographs)
    assert (_targets(planned), planned.refused) == (targets, [])
    assert bool(planned.notes) == (len(targets[0]) > len("a.tif"))


@pytest.mark.parametrize("template", ["{stem}", "{name}", "{stem}/{name}", "{suffix}_{stem}"])
def test_no_two_photographs_share_a_place(template: str) -> None:
    names = [
        "a.jpg",
        "A.JPG",
        "a.JPG",
        "a.png",
        "é.jpg",
        "e\u0301.jpg",
        "a_jpg.jpg",
        "a.jpg.jpg",
        "below/a.jpg",
    ]
    photographs = [(f"{base}/{name}", base) for base in ("one", "two", "x/one", "ONE") for name in names]
    planned = _plan(*photographs, template=template)
    assert len(planned.jobs) == len(photographs)
    assert len({place_key(job.target) for job in planned.jobs}) == len(photographs)
    again = _plan(*photographs, template=template)
    assert _targets(again) == _targets(planned)


def test_linked_folders_are_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (OUT / "one").mkdir(parents=True)
    Path(OUT / "two").symlink_to("one")
    planned = _plan(("in/one/a.jpg", "in"), ("in/two/a.jpg", "in"))
    assert len({os.path.realpath(job.target) for job in planned.jobs}) == 2


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_an_input_is_no_place_for_an_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: object
) -> None:
    monkeypatch.chdir(tmp_path)
    OUT.mkdir()
    Path("out/a.tif").touch()
    photograph = "out/a.tif"
    if callable(link):
        Path("in").mkdir()
        photograph = "in/a.tif"
        Path("out/a.tif").rename(photograph)
        link(Path(photograph).absolute(), "out/a.tif")
    inputs = Protected()
    inputs.add("a photograph", Path(photograph))
    base = str(Path(photograph).parent)
    planned = _plan((photograph, base), ("in/b.jpg", "in"), protected=inputs)
    assert _targets(planned) == ["b.tif"]
    ((job, why),) = planned.refused
    assert str(job.source) == photograph
    assert "--name '{stem}_depth'" in why
    assert _targets(_plan((photograph, base), template="{stem}_depth", protected=inputs)) == ["a_depth.tif"]


def test_one_odd_name_does_not_stop_the_others() -> None:
    planned = _plan(("in/...jpg", "in"), ("in/a.jpg", "in"), template="{stem}/depth")
    assert _targets(planned) == ["a/depth.tif"]
    assert "leads out" in planned.refused[0][1]


def test_a_shard_goes_by_the_names_below_the_output_folder() -> None:
    """Each job of an array may write elsewhere: every photograph is still done by exactly one."""
    photographs = [(Path(f"in/{number}.jpg"), Path("in")) for number in range(40)]
    done = []
    for index in range(1, 5):
        part, out = Shard.parse(f"{index}/4"), Path(f"scratch/{index}")
        jobs = plan(photographs, out, "{stem}", ".tif").jobs
        done += [job.source for job in jobs if part.has_job(job, out)]
    assert sorted(done) == sorted(photo for photo, _ in photographs)
