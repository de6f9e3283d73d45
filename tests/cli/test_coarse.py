"""`prv2 refine` with coarse networks from a Hub on loopback: auto, by name, offline, without a unit."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_rules import Golden
from hub_server import HubServer
from PIL import Image

from prv2cli.cli import app
from prv2cli.depth_files.read import read_depth
from prv2cli.hub.resolve import registry

NAME = "dav2-hypersim-small"
Refine = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def published() -> bytes:
    """A file as the authors of Depth Anything V2 publish it, with the reference weights."""
    file = io.BytesIO()
    torch.save(Golden.load("dav2_vits").state(), file)
    return file.getvalue()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, published: bytes) -> Iterator[HubServer]:
    """A Hub with that network under its registered name, and an empty cache."""
    entries = registry()
    entry = entries[NAME].model_copy(update={"revision": None, "sha256": None, "size": None})
    monkeypatch.setattr("prv2cli.hub.resolve._entries", lambda: entries | {NAME: entry})
    with HubServer() as server:
        server.use(monkeypatch, tmp_path / "cache")
        assert entry.repo is not None
        assert entry.file is not None
        server.add_repo(entry.repo, {entry.file: published})
        yield server


@pytest.fixture
def refine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Refine:
    """`prv2 refine` of a small photograph to depth.npy: (exit code, stderr)."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("photo.png")

    def run(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        command = ["refine", "photo.png", "-o", "depth.npy", "--device", "cpu", *arguments]
        return app._run(command, debug=False), capsys.readouterr().err

    return run


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
