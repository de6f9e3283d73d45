"""`prv2 refine` with coarse networks from a Hub on loopback: auto, by name, offline, without a unit."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import moge2_files
import numpy as np
import pytest
import torch
from depth_families import prompt_depth_anything, publish
from golden_rules import Golden
from hub_server import HubServer
from moge2_files import Wall, as_bytes
from PIL import Image

from prv2cli.cli import app
from prv2cli.depth_files.read import read_depth
from prv2cli.hub.resolve import registry

NAME, INDOOR = "moge-2-vits-normal", "dav2-hypersim-small"
WALL = Wall()
SHAPE = (48, 64)
Refine = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def published() -> bytes:
    """A file as the authors of MoGe-2 publish it: of a network that sees a wall in every photograph, and sky above."""
    return as_bytes(moge2_files.published(WALL))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, published: bytes) -> Iterator[HubServer]:
    """A Hub with that network under its registered name, and an empty cache."""
    with HubServer() as server:
        server.use(monkeypatch, tmp_path / "cache")
        register(server, monkeypatch, NAME, published)
        yield server


def register(server: HubServer, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes) -> None:
    """Publish a file under a registered name, whose sha256 is then not known."""
    entries = registry()
    entry = entries[name].model_copy(update={"revision": None, "sha256": None, "size": None})
    monkeypatch.setattr("prv2cli.hub.resolve._entries", lambda: entries | {name: entry})
    assert entry.repo is not None
    assert entry.file is not None
    server.add_repo(entry.repo, {entry.file: content})


@pytest.fixture
def refine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Refine:
    """`prv2 refine` of a small photograph to depth.npy: (exit code, stderr)."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    pixels = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("photo.png")

    def refined(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        return run(*arguments), capsys.readouterr().err

    return refined


def run(*arguments: str) -> int:
    return app._run(["refine", "photo.png", "-o", "depth.npy", "--device", "cpu", *arguments], debug=False)


def test_auto_takes_what_the_hub_has_and_then_the_cache(server: HubServer, refine: Refine) -> None:
    code, err = refine()
    assert code == 0, err
    assert "warning" not in err
    about = read_depth(Path("depth.npy")).metadata
    assert (about.coarse, about.model, about.unit) == (NAME, "refiner-s", "metre")
    asked = len(server.downloads())
    server.stop()
    code, err = refine("--coarse", NAME)
    assert (code, "warning" in err) == (0, False)
    assert refine("--offline")[0] == 0
    assert len(server.downloads()) == asked


def test_metres_sky_and_focal_length_of_the_network(server: HubServer, refine: Refine) -> None:
    """The wall in metres, no depth in the sky, and what the network found out about the camera."""
    assert refine()[0] == 0
    depth = read_depth(Path("depth.npy"))
    height, width = SHAPE
    assert WALL.horizon is not None
    half_diagonal = math.hypot(height, width) / 2
    horizon = height / 2 + WALL.horizon * half_diagonal  # pixels from the top
    sky = np.isnan(depth.values)
    assert sky[: int(horizon) - 2].all()
    assert not sky[int(horizon) + 2 :].any()
    np.testing.assert_allclose(depth.values[int(horizon) + 8 :], WALL.depth, rtol=0.05)
    about = depth.metadata
    focal_px = WALL.focal * half_diagonal
    assert about.focal_px == pytest.approx(focal_px, rel=1e-3)
    assert about.focal_origin == "estimated"
    assert about.fov_degrees == pytest.approx(2 * math.degrees(math.atan(width / 2 / focal_px)), rel=1e-3)
    assert about.masked == int(sky.sum())


def test_the_sky_is_told(server: HubServer, refine: Refine, capsys: Any) -> None:
    """In the sentence for people, in the report and its notes for programs."""
    assert re.search(r"depth\.npy: 64x48, 3\.\d+ to \d\.\d+ m, \d+% sky without depth, ", refine()[1])
    run("--json")
    report = json.loads(capsys.readouterr().out)
    masked = report["masked"]
    assert report["notes"] == [f"{masked} pixels are sky and have no depth"]
    assert 0 < masked < 64 * 48
    assert report["focal_origin"] == "estimated"
    assert report["min"] <= report["median"] <= report["max"]


@pytest.mark.parametrize("suffix", ["tif", "png", "npy"])
@pytest.mark.parametrize("inverse", [False, True])
def test_no_depth_in_the_sky_of_any_file(
    server: HubServer, refine: Refine, suffix: str, inverse: bool
) -> None:
    """0 in files of integers, NaN in those of floats, whether they hold depth or inverse depth."""
    assert refine("-o", f"depth.{suffix}", *(["--inverse"] if inverse else []))[0] == 0
    depth = read_depth(Path(f"depth.{suffix}"))
    assert np.isnan(depth.values[0]).all()
    assert not np.isnan(depth.values[-1]).any()
    assert depth.metadata.masked == int(np.isnan(depth.values).sum())


def test_a_given_focal_length_decides(server: HubServer, refine: Refine) -> None:
    given = 2 * WALL.focal * math.hypot(*SHAPE) / 2
    assert refine("--focal-px", str(given))[0] == 0
    depth = read_depth(Path("depth.npy"))
    assert (depth.metadata.focal_px, depth.metadata.focal_origin) == (given, "given")
    assert float(np.nanmedian(depth.values)) == pytest.approx(2 * WALL.depth, rel=0.02)


def test_a_focal_length_in_exif_data_is_used(server: HubServer, refine: Refine) -> None:
    film = 26  # mm, of a diagonal of 43.27
    exif = Image.Exif()
    exif[0x8769] = {0xA405: film}
    with Image.open("photo.png") as image:
        image.save("photo.png", exif=exif)
    assert refine()[0] == 0
    depth = read_depth(Path("depth.npy"))
    focal_px = film * math.hypot(*SHAPE) / math.hypot(36, 24)
    assert depth.metadata.focal_origin == "exif"
    assert depth.metadata.focal_px == pytest.approx(focal_px)
    ratio = focal_px / (WALL.focal * math.hypot(*SHAPE) / 2)
    assert float(np.nanmedian(depth.values)) == pytest.approx(ratio * WALL.depth, rel=0.02)


def test_a_scene_takes_the_network_made_for_it(
    server: HubServer, refine: Refine, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = io.BytesIO()
    torch.save(Golden.load("dav2_vits").state(), file)
    register(server, monkeypatch, INDOOR, file.getvalue())
    code, err = refine("--scene", "indoor")
    assert code == 0, err
    assert "licence not stated" in err
    about = read_depth(Path("depth.npy")).metadata
    assert (about.coarse, about.unit, about.focal_px, about.masked) == (INDOOR, "metre", None, 0)


@pytest.mark.parametrize(
    "flags", [("--coarse", "lite"), ("--coarse-depth", "map.npy", "--coarse-scale", "1")]
)
def test_a_scene_that_nothing_would_ask_for_is_refused(
    server: HubServer, refine: Refine, flags: tuple[str, ...]
) -> None:
    np.save("map.npy", np.ones(SHAPE, np.float32))
    code, err = refine(*flags, "--scene", "indoor")
    assert code == 2
    assert "--scene is for --coarse auto" in err


def test_without_hub_and_cache_auto_takes_what_is_embedded_and_says_so(
    server: HubServer, refine: Refine
) -> None:
    server.stop()
    code, err = refine()
    assert code == 0
    warnings = [line for line in err.splitlines() if line.startswith("warning")]
    assert len(warnings) == 1
    assert NAME in warnings[0]
    assert "lite" in warnings[0]
    assert read_depth(Path("depth.npy")).metadata.coarse == "lite"


@pytest.mark.parametrize(("flag", "words"), [((), "cannot reach"), (("--offline",), NAME)])
def test_a_named_network_never_falls_back(
    server: HubServer, refine: Refine, flag: tuple[str, ...], words: str
) -> None:
    server.stop()
    code, err = refine("--coarse", NAME, *flag)
    assert code == 1
    assert words in err
    assert len(err.splitlines()) == 1
    assert [p.name for p in Path.cwd().iterdir()] == ["photo.png"]


def test_a_relative_network_is_never_called_metric(server: HubServer, refine: Refine, tmp_path: Path) -> None:
    server.add_repo("someone/relative", _relative_model(tmp_path / "model"))
    code, err = refine("--coarse", "hf:someone/relative")
    assert code == 0, err
    depth = read_depth(Path("depth.npy"))
    assert (depth.metadata.unit, depth.metadata.kind) == ("relative", "depth")
    assert depth.metadata.coarse == "hf:someone/relative"
    code, err = refine("--coarse", "hf:someone/relative", "--inverse")
    inverse = read_depth(Path("depth.npy"))
    assert (inverse.metadata.unit, inverse.metadata.kind) == ("1/relative", "inverse")
    np.testing.assert_allclose(inverse.values * depth.values, 1, rtol=1e-4)


@pytest.mark.parametrize("size", [(192, 256), (12, 16)])
def test_a_sensors_map_as_the_prompt_of_a_network(
    size: tuple[int, int], server: HubServer, refine: Refine, tmp_path: Path
) -> None:
    """Millimetres of a 16-bit file, with holes: the network's answer lies in their range, and is then refined."""
    publish(prompt_depth_anything(), tmp_path / "prompted")
    server.add_repo("a/prompted", {p.name: p.read_bytes() for p in (tmp_path / "prompted").iterdir()})
    lidar = np.linspace(1500, 4000, size[0])[:, None].repeat(size[1], axis=1).astype(np.uint16)
    lidar[2:4, 3:6] = 0
    Image.fromarray(lidar).save("lidar.png")
    sensor = ("--coarse-depth", "lidar.png", "--coarse-scale", "1000")
    code, err = refine("--coarse", "hf:a/prompted", *sensor)
    assert code == 0, err
    assert "warning" not in err
    prompted = read_depth(Path("depth.npy"))
    assert (prompted.metadata.unit, prompted.metadata.coarse) == (
        "metre",
        "hf:a/prompted prompted by file lidar.png",
    )
    assert 1 < np.median(prompted.values) < 12
    assert refine(*sensor)[0] == 0
    alone = read_depth(Path("depth.npy"))
    assert alone.metadata.coarse == "file lidar.png"
    assert np.abs(alone.values / prompted.values - 1).mean() > 0.01


def test_a_network_that_takes_no_prompt(server: HubServer, refine: Refine, tmp_path: Path) -> None:
    server.add_repo("someone/relative", _relative_model(tmp_path / "model"))
    np.save("lidar.npy", np.ones((12, 16), np.float32))
    code, err = refine(
        "--coarse", "hf:someone/relative", "--coarse-depth", "lidar.npy", "--coarse-scale", "1"
    )
    assert code == 2
    assert "takes no depth map as its prompt" in err


def _relative_model(folder: Path) -> dict[str, bytes]:
    """A small Depth Anything with random weights that gives relative inverse depth, as transformers saves it."""
    import transformers

    taken: dict[str, Any] = {"out_indices": [1, 2, 3, 4]}
    backbone = transformers.Dinov2Config(
        hidden_size=24,
        num_hidden_layers=4,
        num_attention_heads=2,
        mlp_ratio=2,
        image_size=56,
        patch_size=14,
        **taken,
        reshape_hidden_states=False,
    )
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone,
        depth_estimation_type="relative",
        reassemble_hidden_size=24,
        neck_hidden_sizes=[8, 12, 16, 16],
        fusion_hidden_size=12,
        head_hidden_size=8,
    )
    torch.manual_seed(0)
    model = transformers.DepthAnythingForDepthEstimation(config)
    with torch.no_grad():
        assert model.head.conv3.bias is not None
        model.head.conv3.bias.fill_(1.0)  # as initialised, the head gives next to nothing
    model.save_pretrained(folder)
    size = {"height": 56, "width": 56}
    transformers.DPTImageProcessor(size=size, ensure_multiple_of=14, keep_aspect_ratio=True).save_pretrained(
        folder
    )
    return {path.name: path.read_bytes() for path in folder.iterdir()}
