"""Depth networks of transformers, small ones of every family: what their numbers are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from depth_families import BUILDERS, CPU, Families, Published, check, depth_pro, publish, scene
from hub_server import HubServer
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from prv2cli.coarse.given import as_prompt, given_coarse
from prv2cli.coarse.load import load_coarse
from prv2cli.coarse.network import RELATIVE_RANGE, CoarseDepth, positive_depth, takes_prompt
from prv2cli.coarse.transformers import network as transformers_depth
from prv2cli.coarse.transformers.network import TransformersNetwork, describe
from prv2cli.errors import InputError, UsageError
from prv2cli.hub.resolve import resolve
from prv2cli.refine.refiner import Refiner

MEANING = {
    "depth_anything": ("inverse", "relative"),
    "depth_anything_metric": ("depth", "metre"),
    "prompt_depth_anything": ("depth", "relative"),
    "zoedepth": ("depth", "metre"),
    "depth_pro": ("depth", "metre"),
    "dpt": ("inverse", "relative"),
    "glpn": ("depth", "metre"),
    "chmv2": ("inverse", "relative"),
    "tipsv2_dpt": ("depth", "metre"),
}


@pytest.mark.parametrize("family", BUILDERS)
def test_as_transformers_documents_it(family: str, families: Families) -> None:
    """The values of transformers' pipeline, and what they are said to be."""
    published, network = families(family)
    rgb = scene()
    coarse = network.predict(rgb)
    check(coarse, rgb)
    assert (coarse.kind, coarse.unit) == MEANING[family]
    assert (network.name, network.identity) == ("hf:org/name", "commit")
    expected = published.documented(rgb)
    assert expected.std() > 0.005 * expected.mean() > 0  # the photograph matters
    if coarse.unit == "relative":
        expected = expected.clamp_min(expected.max() / RELATIVE_RANGE)
    else:
        expected = torch.where(expected > 0, expected, 0)
    assert coarse.values.shape[2:] == expected.shape
    assert torch.allclose(coarse.values[0, 0], expected, rtol=1e-5)


def canonical_inverse(published: Published, rgb: np.ndarray) -> Tensor:
    """Depth Pro's raw output at the photograph's size, straight from the network: (1, 1, H, W)."""
    pixels = published.processor(images=Image.fromarray(rgb), return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        raw = published.model(pixel_values=pixels).predicted_depth
    return F.interpolate(raw[None], size=rgb.shape[:2], mode="bilinear")


def test_depth_pro_takes_the_focal_length(families: Families) -> None:
    """Depth = focal length / (width * canonical inverse depth); without it, the network's own field of view."""
    published, network = families("depth_pro")
    rgb = scene()
    width = rgb.shape[1]
    inverse = canonical_inverse(published, rgb)
    near = network.predict(rgb, 80.0)
    assert near.unit == "metre"
    assert torch.allclose(near.values, 80 / (width * inverse), rtol=1e-4)
    assert torch.allclose(network.predict(rgb, 160.0).values, 2 * near.values, rtol=1e-4)

    pixels = published.processor(images=Image.fromarray(rgb), return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        degrees = float(published.model(pixel_values=pixels).field_of_view)
    own = 0.5 * width / math.tan(math.radians(degrees) / 2)
    assert torch.allclose(network.predict(rgb).values, network.predict(rgb, own).values, rtol=1e-4)
    # The focal length is in pixels of the photograph, however little of it the network sees.
    large = rgb.repeat(20, axis=0).repeat(20, axis=1)
    same_lens = network.predict(large, 80.0 * 20).values
    assert float(same_lens.median()) == pytest.approx(float(near.values.median()), rel=0.1)


def test_a_network_can_still_be_trained(families: Families) -> None:
    """BEiT keeps an index of positions for the whole process, and the pipeline runs in inference mode."""
    published, network = families("zoedepth")
    with torch.inference_mode():
        network.predict(scene(160, 240))
    pixels = published.processor(images=Image.fromarray(scene(160, 240)), return_tensors="pt")["pixel_values"]
    published.model(pixel_values=pixels).predicted_depth.mean().backward()
    published.model.zero_grad()


def test_other_families_ignore_the_focal_length(families: Families) -> None:
    network = families("zoedepth")[1]
    assert torch.equal(network.predict(scene(), 50.0).values, network.predict(scene()).values)


def test_depth_pro_without_a_field_of_view(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    published = publish(depth_pro(fov=False), tmp_path)
    network = published.network()
    assert "--focal-px" in caplog.text
    rgb = scene()
    relative, metric = network.predict(rgb), network.predict(rgb, 2.0 * rgb.shape[1])
    assert (relative.kind, relative.unit) == ("depth", "relative")
    assert metric.unit == "metre"
    assert torch.allclose(metric.values, 2 * relative.values, rtol=1e-4)


def test_an_impossible_field_of_view(families: Families, monkeypatch: pytest.MonkeyPatch) -> None:
    network = families("depth_pro")[1]
    bias = network.module.fov_model.head.layers[2].bias
    monkeypatch.setattr(bias, "data", torch.full_like(bias, -300.0))
    with pytest.raises(InputError, match="--focal-px"):
        network.predict(scene())
    check(network.predict(scene(), 80.0), scene())


def test_points_infinitely_far_away(families: Families, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros of relative inverse depth become a thousandth of the maximum: positive, so that 1/x can be taken."""
    published, network = families("dpt")
    bias = network.module.head.head[4].bias
    middle = float(bias + published.documented(scene()).median() - 6)
    monkeypatch.setattr(bias, "data", torch.full_like(bias, middle))
    values = network.predict(scene()).values
    assert values.min() == values.max() / RELATIVE_RANGE > 0


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"model_type": "depth_anything", "depth_estimation_type": "relative"}, ("inverse", "relative")),
        ({"model_type": "depth_anything", "depth_estimation_type": "metric"}, ("depth", "metre")),
        ({"model_type": "prompt_depth_anything", "depth_estimation_type": "metric"}, ("depth", "relative")),
        ({"model_type": "prompt_depth_anything", "depth_estimation_type": "relative"}, ("depth", "relative")),
        ({"model_type": "zoedepth"}, ("depth", "metre")),
        ({"model_type": "glpn", "max_depth": 80}, ("depth", "metre")),
        ({"model_type": "tipsv2_dpt"}, ("depth", "metre")),
        ({"model_type": "chmv2", "max_depth": 96}, ("inverse", "relative")),
        ({"model_type": "depth_pro", "use_fov_model": True}, ("depth", "metre")),
        ({"model_type": "depth_pro", "use_fov_model": False}, ("depth", "relative")),
        ({"model_type": "dpt", "add_projection": False}, ("inverse", "relative")),
        (
            {
                "model_type": "dpt",
                "add_projection": False,
                "backbone_config": SimpleNamespace(model_type="swinv2"),
            },
            ("inverse", "relative"),
        ),
        (
            {
                "model_type": "dpt",
                "add_projection": True,
                "backbone_config": SimpleNamespace(model_type="dinov2"),
            },
            ("depth", "relative"),
        ),
        ({"model_type": "something_new", "max_depth": 10}, ("inverse", "relative")),
    ],
)
def test_describe(settings: dict[str, Any], expected: tuple[str, str]) -> None:
    assert describe(SimpleNamespace(**settings)) == expected


def test_unknown_types_are_said_to_be_unknown(
    families: Families, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A depth network that transformers has and prv2 knows nothing about."""
    published, _ = families("dpt")
    monkeypatch.setattr(transformers_depth, "_DESCRIBED", ("glpn",))
    caplog.clear()
    network = published.network()
    assert [record.name for record in caplog.records] == ["prv2cli"]
    assert "dpt" in caplog.text
    assert "relative inverse depth" in caplog.text
    assert network.unit == "relative"


def test_prompts_are_said_to_be_missing(families: Families, caplog: pytest.LogCaptureFixture) -> None:
    network = families("prompt_depth_anything")[0].network()
    caplog.clear()
    for _ in range(2):
        network.predict(scene())
    assert [record.getMessage() for record in caplog.records] == [
        "hf:org/name: run without a depth prompt, it gives relative depth, not metres"
    ]


def test_every_family_that_transformers_has_is_tested() -> None:
    """A new one is loaded with a warning until it is known what its numbers are."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_DEPTH_ESTIMATION_MAPPING_NAMES

    assert set(MODEL_FOR_DEPTH_ESTIMATION_MAPPING_NAMES) <= {
        name.removesuffix("_metric") for name in BUILDERS
    }


@pytest.mark.parametrize("size", [(192, 256), (16, 24), (64, 96), (100, 150)])
def test_a_prompt_decides_the_range(size: tuple[int, int], families: Families) -> None:
    """As transformers documents it, for maps of any size; metres from a map in metres."""
    published, network = families("prompt_depth_anything")
    rgb = scene(*((96, 128) if size == (192, 256) else (64, 96)))
    lidar = torch.linspace(1.5, 4, size[0])[:, None].expand(size).clone()
    lidar += 0.3 * torch.rand(size, generator=torch.Generator().manual_seed(1))
    found = network.predict_prompted(rgb, CoarseDepth(lidar[None, None]))
    assert (found.kind, found.unit) == ("depth", "metre")
    inputs = published.processor(
        images=Image.fromarray(rgb),
        prompt_depth=lidar.numpy(),
        prompt_scale_to_meter=1.0,
        return_tensors="pt",
    )
    with torch.inference_mode():
        outputs = published.model(**inputs)
    expected = published.processor.post_process_depth_estimation(
        outputs, target_sizes=[tuple(found.values.shape[2:])]
    )
    assert torch.allclose(found.values[0, 0], expected[0]["predicted_depth"], rtol=1e-4)
    # Another range in, another range out.
    doubled = network.predict_prompted(rgb, CoarseDepth(2 * lidar[None, None], unit="relative"))
    assert doubled.unit == "relative"
    assert torch.allclose(doubled.values, 2 * found.values, rtol=1e-4)


def test_prompts_with_holes_inverse_and_flat(families: Families) -> None:
    network = families("prompt_depth_anything")[1]
    lidar = torch.linspace(1.5, 4, 48)[:, None].expand(48, 64)[None, None].clone()
    whole = network.predict_prompted(scene(), CoarseDepth(lidar)).values
    holes = lidar.clone()
    holes[..., 10:14, 20:30] = 0
    holes[..., 30, 5] = math.nan
    assert (network.predict_prompted(scene(), CoarseDepth(holes)).values / whole - 1).abs().max() < 0.05
    inverse = network.predict_prompted(scene(), CoarseDepth(1 / lidar, "inverse")).values
    assert torch.allclose(inverse, whole, rtol=1e-4)
    flat = network.predict_prompted(scene(), CoarseDepth(torch.full_like(lidar, 2.0))).values
    assert torch.allclose(flat, torch.full_like(flat, 2.0), rtol=1e-3)


def test_a_prompt_is_taken_as_a_given_map_is() -> None:
    """The farthest of a relative inverse map stay far, and steps are taken out."""
    levels = np.repeat(np.arange(0, 256, 32, dtype=np.float32), 8)[None].repeat(48, axis=0)
    prompt = as_prompt(given_coarse(levels, "inverse", "relative", half_step=16.0))
    depth = positive_depth(prompt)[0, 0].numpy()
    assert (prompt.kind, prompt.unit, prompt.affine) == ("inverse", "relative", False)
    assert depth[:, 0].min() > 4 * depth[:, 16].max()
    assert len(np.unique(prompt.values)) > 16
    metres = as_prompt(given_coarse(levels, "depth", "metre"))  # where 0 is a hole
    assert positive_depth(metres).min() >= 32


def test_a_prompted_network_keeps_no_holes(families: Families, refiner: Refiner) -> None:
    network = families("prompt_depth_anything")[1]
    prompted = Refiner(refiner.checkpoint, network, device="cpu")
    with pytest.raises(UsageError, match="keep_holes"):
        prompted.refine(scene(), coarse_depth=np.ones((64, 96), np.float32), keep_holes=True)


def test_only_the_prompted_family_takes_prompts(families: Families) -> None:
    assert takes_prompt(families("prompt_depth_anything")[1])
    assert not takes_prompt(families("dpt")[1])
    assert not takes_prompt(None)


def test_depth_pro_tells_its_focal_length(families: Families) -> None:
    network = families("depth_pro")[1]
    rgb = scene()
    alone = network.predict(rgb)
    assert alone.estimated_focal_px is not None
    given = network.predict(rgb, alone.estimated_focal_px)
    assert given.estimated_focal_px is None
    assert torch.allclose(given.values, alone.values, rtol=1e-4)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    with HubServer() as server:
        server.use(monkeypatch, tmp_path / "cache")
        yield server


@pytest.mark.parametrize("family", BUILDERS)
def test_from_the_hub(family: str, families: Families, server: HubServer) -> None:
    published, network = families(family)
    files = {path.name: path.read_bytes() for path in published.folder.iterdir()}
    commit = server.add_repo("org/name", files | {"pytorch_model.bin": b"never fetched"})
    loaded = load_coarse(resolve("hf:org/name"), CPU)
    assert isinstance(loaded, TransformersNetwork)
    assert (loaded.name, loaded.identity) == ("hf:org/name", commit)
    coarse = loaded.predict(scene())
    assert (coarse.kind, coarse.unit) == MEANING[family]
    assert torch.equal(coarse.values, network.predict(scene()).values)
