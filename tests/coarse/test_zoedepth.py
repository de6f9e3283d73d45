"""ZoeDepth as a coarse branch with features: a small random one, against transformers' own forward."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from zoedepth_settings import SETTINGS, TWO_HEADS

from prv2cli.checkpoints.model_file import load_strictly, read_checkpoint, save_checkpoint
from prv2cli.coarse.aspect import check_aspect
from prv2cli.coarse.load import coarse_network
from prv2cli.coarse.zoedepth import ZoeDepthNetwork, read_zoedepth
from prv2cli.errors import CheckpointError, ConfigError, MissingExtraError
from prv2cli.model.build import Bundle, build_model
from prv2cli.model.coarse.zoedepth import ZoeDepthCoarse
from prv2cli.model.config import BundleConfig, RefinerConfig, ZoeDepthConfig
from prv2cli.model.refiner.patchrefiner import PatchRefiner
from prv2cli.refine.refiner import Refiner
from prv2cli.resampling.area import resize_photograph, shrink

CPU = torch.device("cpu")
PROCESS = (64, 96)


def config(**changes: Any) -> ZoeDepthConfig:
    return ZoeDepthConfig(transformers=SETTINGS | changes, input_size=PROCESS)


def rough(model: ZoeDepthCoarse) -> ZoeDepthCoarse:
    """Values at which every tensor matters: the depth of a fresh model is nearly the same everywhere."""
    generator = torch.Generator().manual_seed(4)
    for name, tensor in model.named_parameters():
        z = torch.randn(tensor.shape, generator=generator)
        if name.endswith("weight") and z.ndim == 1:
            z = 1 + 0.02 * z
        else:
            z *= 0.1 if z.ndim == 1 else 1.5 * z[0].numel() ** -0.5
        tensor.data.copy_(z)
    return model.eval()


@pytest.fixture(scope="module")
def model() -> ZoeDepthCoarse:
    return rough(ZoeDepthCoarse(config()))


def scene(height: int, width: int) -> np.ndarray:
    """Smooth colours and an edge."""
    y, x = np.mgrid[0:height, 0:width] / height
    base = np.stack([np.sin(3 * x), np.cos(4 * y), x * y], axis=-1) * 60 + 128
    base[:, width // 2 :] -= 50
    return np.clip(base, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("changes", [{}, TWO_HEADS], ids=["one head", "two heads"])
def test_depth_as_in_transformers(changes: dict[str, Any]) -> None:
    """The parts called one by one give what its own forward gives, of the pixels that its processor would give."""
    module = rough(ZoeDepthCoarse(config(**changes)))
    rgb = torch.rand(1, 3, *PROCESS)
    with torch.inference_mode():
        out = module(rgb)
        expected = module.network(pixel_values=2 * rgb - 1).predicted_depth
    assert out.depth.shape == (1, 1, *PROCESS)
    assert expected.std() > 0.01 * expected.mean() > 0
    assert torch.allclose(out.depth[:, 0], expected, rtol=1e-5)


def test_six_maps(model: ZoeDepthCoarse) -> None:
    """High resolution first, at strides 1 to 32; each is what transformers computes in the place it is named for."""
    caught: list[Tensor] = []
    network = copy.deepcopy(model.network)
    parts = [
        network.relative_head.conv2,
        *reversed(network.neck.fusion_stage.layers),
        network.metric_head.conv2,
    ]
    found: dict[int, Tensor] = {}
    for k, part in enumerate(parts):
        part.register_forward_hook(lambda _module, _inputs, output, k=k: found.__setitem__(k, output))
    rgb = torch.rand(2, 3, *PROCESS)
    with torch.inference_mode():
        features = model(rgb).features
        network(pixel_values=2 * rgb - 1)
    caught = [found[0].relu(), *(found[k] for k in range(1, 6))]
    assert [tuple(f.shape[-2:]) for f in features] == [(64 // 2**k, 96 // 2**k) for k in range(6)]
    assert model.channels == tuple(f.shape[1] for f in features) == (6, 12, 12, 12, 12, 12)
    for feature, expected in zip(features, caught, strict=True):
        assert expected.std() > 0
        assert torch.allclose(feature, expected, rtol=1e-4, atol=1e-5)


def test_the_published_network_has_the_papers_channels() -> None:
    with torch.device("meta"):
        published = ZoeDepthCoarse(ZoeDepthConfig(transformers={"model_type": "zoedepth"}))
    assert published.channels == (32, 256, 256, 256, 256, 256)
    assert published.config.input_size == (384, 512)


def test_gradients_reach_the_coarse_branch() -> None:
    """Every tensor that takes part: depth and features both lead back to the photograph's first layer."""
    module = rough(ZoeDepthCoarse(config()))
    for part in ("depth", "features"):
        out = module(torch.rand(1, 3, *PROCESS))
        loss = out.depth.log().mean() if part == "depth" else sum(f.square().mean() for f in out.features)
        module.zero_grad()
        loss.backward()
        gradients = {name: p.grad for name, p in module.named_parameters()}
        first = gradients["network.backbone.beit.embeddings.patch_embeddings.projection.weight"]
        assert first is not None
        assert first.abs().max() > 0
    out = module(torch.rand(1, 3, *PROCESS))
    module.zero_grad()
    (out.depth.log().mean() + sum(f.square().mean() for f in out.features)).backward()
    idle = {name for name, p in module.named_parameters() if p.grad is None}
    assert all("layers.0.residual_layer1" in name or "mask_token" in name for name in idle)


def test_frozen_branches_stay_as_they_are(model: ZoeDepthCoarse) -> None:
    frozen = copy.deepcopy(model).requires_grad_(False)
    out = frozen(torch.rand(1, 3, *PROCESS))
    assert not out.depth.requires_grad
    assert not any(f.requires_grad for f in out.features)


def test_training_after_inference(model: ZoeDepthCoarse) -> None:
    """At a size first seen in inference mode: BEiT keeps an index of positions for the whole process."""
    trained = copy.deepcopy(model)
    size = (96, 160)
    with torch.inference_mode():
        model(torch.rand(1, 3, *size))
    trained(torch.rand(1, 3, *size)).depth.mean().backward()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in trained.parameters())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model_type": "dpt"}, "model_type"),
        ({"backbone_config": None, "backbone": "org/name"}, "backbone"),
        ({"readout_type": "guess"}, "readout_type"),
        ({"reassemble_factors": [4, 2, 1, 1]}, "reassemble_factors"),
        ({"neck_hidden_sizes": [8, 8, 8]}, "neck_hidden_sizes"),
        ({"num_attractors": [4]}, "settings build no ZoeDepth"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ZoeDepthCoarse(config(**settings))


def test_sizes_that_do_not_fit(model: ZoeDepthCoarse) -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        model(torch.rand(1, 3, 64, 80))


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(MissingExtraError, match="transformers"):
        ZoeDepthCoarse(config())


def test_published_weights(model: ZoeDepthCoarse, tmp_path: Path) -> None:
    """A folder that transformers wrote becomes a checkpoint of ours, with the same depth."""
    model.network.save_pretrained(tmp_path)
    read, tensors = read_zoedepth(tmp_path, "hf:org/name")
    assert read.input_size == (384, 512)
    ours = ZoeDepthCoarse(read).eval()
    load_strictly(ours, {k: v for k, v in tensors.items() if v.is_floating_point()})
    save_checkpoint(tmp_path / "ours.safetensors", ours, read, {})
    loaded = read_checkpoint(tmp_path / "ours.safetensors").build()
    rgb = torch.rand(1, 3, *PROCESS)
    with torch.inference_mode():
        assert torch.equal(loaded(rgb).depth, model(rgb).depth)
    (tmp_path / "config.json").write_text('{"model_type": "dpt"}')
    with pytest.raises(CheckpointError, match="dpt"):
        read_zoedepth(tmp_path, "hf:org/name")


@pytest.mark.parametrize("size", [(300, 420), (420, 300), (200, 1200), (40, 50)])
def test_from_photograph_to_depth(size: tuple[int, int], model: ZoeDepthCoarse) -> None:
    """Seen at the process size whatever the aspect, brought back to the photograph's."""
    network = ZoeDepthNetwork(model, model.config, CPU, "zoe", "identity")
    rgb = scene(*size)
    coarse = network.predict(rgb, 100.0)
    assert (coarse.kind, coarse.unit) == ("depth", "metre")
    assert (coarse.values > 0).all()
    assert coarse.values.dtype == torch.float32
    check_aspect(coarse.values.shape[2:], size)
    assert [f.shape[-2:] for f in coarse.features] == [(64 // 2**k, 96 // 2**k) for k in range(6)]
    with torch.inference_mode():
        seen = model(resize_photograph(rgb, PROCESS)).depth
    back = F.interpolate(coarse.values, PROCESS, mode="bilinear")
    assert (back - seen).abs().mean() < 0.2 * seen.std()
    deep = network.predict(rgb.astype(np.uint16) * 257).values
    assert (deep - coarse.values).abs().median() < 0.05 * coarse.values.mean()


def test_photographs_as_the_authors_resize_them() -> None:
    """Bilinear with corners aligned; large ones are averaged instead."""
    rgb = scene(100, 150)
    pixels = torch.from_numpy(rgb).permute(2, 0, 1)[None] / 255
    expected = F.interpolate(pixels, PROCESS, mode="bilinear", align_corners=True)
    assert torch.allclose(resize_photograph(rgb, PROCESS), expected, atol=1e-6)
    large = scene(400, 600)
    assert torch.equal(resize_photograph(large, PROCESS), shrink(large, PROCESS))


REFINER = RefinerConfig.model_validate(
    {
        "depth_space": "metres",
        "coarse": {"kind": "external", "channels": [6, 12, 12, 12, 12, 12]},
        "encoder": {"name": "mobilenetv4_conv_small_050", "levels": 5},
        "c2f": {"widths": [8] * 6},
        "f2c": {"widths": [8] * 6, "decoder_widths": [8] * 5},
        "align_corners": True,
    }
)
BOXES = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.5, 0.25, 1.0, 0.75]])


def bundle() -> tuple[BundleConfig, Bundle]:
    settings = BundleConfig(coarse=config(), refiner=REFINER, process_size=PROCESS)
    torch.manual_seed(0)
    made = build_model(settings)
    assert isinstance(made, Bundle)
    rough(made.coarse)  # type: ignore[arg-type]
    return settings, made


def refine(made: Bundle, rgb: Tensor, tiles: Tensor) -> tuple[Tensor, Tensor]:
    """Two tiles of one photograph: their coarse depth and what the refiner makes of it."""
    coarse = made.coarse(rgb)
    index = torch.zeros(2, dtype=torch.long)
    depth = torch.cat([F.interpolate(coarse.depth, PROCESS, mode="bilinear")] * 2)
    assert isinstance(made.refiner, PatchRefiner)
    guides = made.refiner.crop(coarse.features, BOXES, index, tiles.shape[-2:])
    return depth, made.refiner.refine_cropped(tiles, depth, guides)


def test_a_bundle_is_built_saved_and_loaded(tmp_path: Path) -> None:
    settings, made = bundle()
    made.eval()
    path = tmp_path / "bundle.safetensors"
    save_checkpoint(path, made, settings, {})
    checkpoint = read_checkpoint(path)
    assert checkpoint.config == settings
    loaded = checkpoint.build()
    assert isinstance(loaded, Bundle)
    rgb, tiles = torch.rand(1, 3, *PROCESS), torch.rand(2, 3, *PROCESS)
    with torch.inference_mode():
        for ours, theirs in zip(refine(made, rgb, tiles), refine(loaded, rgb, tiles), strict=True):
            assert torch.equal(ours, theirs)
    # Its coarse network alone, and the whole from a photograph to depth.
    alone = coarse_network(checkpoint.part("coarse"), CPU, "zoe")
    assert isinstance(alone, ZoeDepthNetwork)
    photograph = scene(132, 200)
    refiner = Refiner(checkpoint, device="cpu", precision="fp32")
    for mode in (None, "m1"):
        result = refiner.refine(photograph, mode=mode)
        assert result.unit == "metre"
        assert result.depth.shape == (132, 200)
        assert np.isfinite(result.depth).all()


def test_a_bundle_learns() -> None:
    """Steps of the refiner alone lower the loss and leave the coarse branch; end to end it moves too."""
    _, made = bundle()
    made.train()
    rgb, tiles = torch.rand(1, 3, *PROCESS), torch.rand(2, 3, *PROCESS)
    with torch.no_grad():
        target = refine(made, rgb, tiles)[0] * 1.3

    def loss() -> Tensor:
        return (refine(made, rgb, tiles)[1] - target).abs().mean()

    before = copy.deepcopy(made.coarse.state_dict())
    made.coarse.requires_grad_(False)
    optimiser = torch.optim.AdamW(made.refiner.parameters(), lr=1e-3)
    first = loss()
    first.backward()
    optimiser.step()
    assert loss() < 0.99 * first
    assert all(torch.equal(before[k], v) for k, v in made.coarse.state_dict().items())

    made.coarse.requires_grad_(True)
    optimiser = torch.optim.AdamW(made.parameters(), lr=1e-4)
    optimiser.zero_grad()
    loss().backward()
    optimiser.step()
    moved = {k for k, v in made.coarse.state_dict().items() if not torch.equal(before[k], v)}
    assert any("backbone" in key for key in moved)
    assert any("metric_head" in key for key in moved)
