"""Depth Anything V2 from photograph to depth, and its weights in the layout of transformers.

The reference vectors `dav2_infer` were made with the authors' `infer_image`; test_golden.py holds the network alone.
"""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_rules import TOLERANCE, Golden
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import Tensor, nn

from prv2cli.checkpoints.authors.dav2 import convert_dav2_hf
from prv2cli.checkpoints.model_file import load_strictly
from prv2cli.coarse.dav2 import Dav2Network, authors_input, input_size, network_input
from prv2cli.coarse.load import load_coarse
from prv2cli.errors import CheckpointError
from prv2cli.hub.resolve import ModelFile
from prv2cli.model.call_per_size import MOST_AT_ONCE
from prv2cli.model.coarse.dav2 import Dav2Coarse
from prv2cli.model.coarse.dinov2 import resize_positions
from prv2cli.model.config import Dav2Config
from prv2cli.model.layers import resize
from prv2cli.resampling.area import shrink
from prv2cli.resampling.aspect import ASPECT_TOLERANCE
from prv2cli.resampling.cubic import resize_cubic

# The second is the tie: 518 / 200 * 300 / 14 = 55.5 patches.
REFERENCES = [(210, 280, 266), (200, 300, 518)]


def noise(height: int, width: int, seed: int = 2) -> np.ndarray:
    """The photograph of the reference runs, as RGB; the authors' function takes BGR."""
    bgr = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return bgr[..., ::-1]


def _published(folder: Path) -> ModelFile:
    """A file as the authors publish it: it does not say its range."""
    path = folder / "depth_anything_v2_metric_hypersim_vits.pth"
    torch.save(Golden.load("dav2_vits").state(), path)
    return ModelFile(path, path.name, None, None)


def test_the_range_that_a_scene_says_is_part_of_the_identity(tmp_path: Path) -> None:
    """What a batch goes by: depth four times as far is another depth."""
    file = _published(tmp_path)
    found = [load_coarse(file, torch.device("cpu"), scene=scene).identity for scene in ("indoor", "outdoor")]
    assert found[0] != found[1]


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Dav2Coarse:
    """The indoor network, from a file as the authors publish it."""
    file = _published(tmp_path_factory.mktemp("authors"))
    network = load_coarse(file, torch.device("cpu"), scene="indoor")
    assert isinstance(network, Dav2Network)
    assert isinstance(network.module, Dav2Coarse)
    assert network.config == Dav2Config(encoder="vits", max_depth=20, input_size=518)
    return network.module


@pytest.fixture(scope="module")
def network(module: Dav2Coarse) -> Callable[[int], Dav2Network]:
    """The network at any nominal input size."""

    def at(size: int) -> Dav2Network:
        config = module.config.model_copy(update={"input_size": size})
        return Dav2Network(module, config, torch.device("cpu"), "dav2", "none")

    return at


@pytest.mark.parametrize(("height", "width", "size"), REFERENCES)
def test_input_is_the_authors(height: int, width: int, size: int, module: Dav2Coarse) -> None:
    golden = Golden.load("dav2_infer")
    rgb = authors_input(noise(height, width), size)
    normalised = (rgb - module.mean) / module.std
    assert golden.error(f"infer_{height}x{width}_in{size}_tensor", normalised) < TOLERANCE / 5


@pytest.mark.parametrize(("height", "width", "size"), REFERENCES)
def test_depth_of_a_photograph_is_the_authors(
    height: int, width: int, size: int, network: Callable[[int], Dav2Network]
) -> None:
    coarse = network(size).predict(noise(height, width))
    depth = resize(coarse.values, (height, width), True)[0, 0]  # the authors' last step
    assert Golden.load("dav2_infer").error(f"infer_{height}x{width}_in{size}_depth", depth) < TOLERANCE
    assert (coarse.kind, coarse.unit) == ("depth", "metre")


@pytest.mark.parametrize("size", [(40, 61), (7, 90), (13, 17), (1, 1), (29, 5)])
def test_cubic_resize(size: tuple[int, int]) -> None:
    """torch has the same kernel and centres; it keeps positions in float64, OpenCV in float32."""
    image = noise(29, 31)
    expected = nn.functional.interpolate(
        torch.from_numpy(image.copy()).permute(2, 0, 1)[None].double(),
        size=size,
        mode="bicubic",
        align_corners=False,
    )
    result = resize_cubic(image, size)
    assert result.dtype == np.float64
    assert np.abs(result - expected[0].permute(1, 2, 0).numpy()).max() < 255 * 1e-5


@pytest.mark.parametrize(
    ("photograph", "size", "expected"),
    [
        ((480, 640), 518, (518, 686)),
        ((4000, 6000), 518, (518, 784)),  # a tie: up, to an even number of patches
        ((300, 200), 518, (784, 518)),
        ((280, 290), 280, (280, 294)),  # 20.7 patches
        ((518, 525), 518, (518, 532)),  # 37.5 patches: up, to an even number
        ((518, 511), 518, (518 + 14, 518)),  # 37.5 patches again, of the longer side
        ((518, 539), 518, (518, 532)),  # 38.5 patches: down, to an even number
        ((1000, 4000), 518, (518, 2072)),
        ((1000, 8000), 518, (252, 2072)),  # a panorama: 18.5 patches, down
        ((100, 10_000), 518, (14, 2072)),
        ((10_000, 1), 518, (2072, 14)),
    ],
)
def test_input_size(photograph: tuple[int, int], size: int, expected: tuple[int, int]) -> None:
    assert input_size(*photograph, size) == expected


@pytest.mark.parametrize(("height", "width"), [(20, 2000), (1500, 20), (60, 90), (90, 60), (1, 200)])
def test_values_keep_the_aspect_and_memory_its_bounds(
    height: int, width: int, network: Callable[[int], Dav2Network]
) -> None:
    coarse = network(28).predict(noise(height, width))
    rows, columns = coarse.values.shape[-2:]
    # The shorter side has whole pixels, and one at least.
    assert abs((columns / rows) / (width / height) - 1) <= ASPECT_TOLERANCE + 0.5 / min(rows, columns)
    assert max(rows, columns) <= 4 * 28
    assert coarse.values.dtype == torch.float32
    assert torch.isfinite(coarse.values).all()
    assert [f.shape[1] for f in coarse.features] == [32, 64, 64, 64, 64, 64]


def test_several_photographs_at_once(network: Callable[[int], Dav2Network]) -> None:
    """Of two input sizes, more than a call takes of the first one: each as alone, in their order."""
    sizes = [(60, 90), (60, 90), (90, 60), *[(60, 90)] * (MOST_AT_ONCE + 1)]
    photos = [noise(height, width) + np.uint8(k) for k, (height, width) in enumerate(sizes)]
    calls: list[int] = []
    dav2 = network(28)
    handle = dav2.module.register_forward_pre_hook(lambda module, given: calls.append(len(given[0])))
    together = dav2.predict_many(photos)
    handle.remove()
    assert sorted(calls) == [1, 3, MOST_AT_ONCE]
    for rgb, found in zip(photos, together, strict=True):
        alone = dav2.predict(rgb)
        torch.testing.assert_close(found.values, alone.values, rtol=1e-4, atol=1e-4)
        for one, other in zip(found.features, alone.features, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_large_photographs_are_averaged() -> None:
    """Bright lines, one in ten rows: the authors' function sees them or not, by position; their mean is 25.5."""
    lines = np.zeros((1000, 1000, 3), np.uint8)
    lines[::10] = 255
    averaged = network_input(lines, 98)
    assert torch.equal(averaged, shrink(lines, (98, 98)))
    assert averaged.min() > 0.02
    assert authors_input(lines, 98).min() < 0.001
    small = noise(190, 190)
    assert torch.equal(network_input(small, 98), authors_input(small, 98))


def test_large_photographs_take_little_memory() -> None:
    photograph = np.zeros((3000, 4000, 3), np.uint8)
    tracemalloc.start()
    try:
        network_input(photograph, 518)
        averaged = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        authors_input(photograph, 518)
        exact = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    in_float64 = 8 * photograph.size
    assert averaged < in_float64 / 10
    assert exact < in_float64 / 2


def test_deep_photographs() -> None:
    shallow = noise(100, 130)
    deep = shallow.astype(np.uint16) * 257
    assert torch.allclose(network_input(deep, 98), network_input(shallow, 98), atol=1e-6)
    # Averages of 8-bit photographs are rounded twice, to rows and to columns.
    assert (network_input(deep, 28) - network_input(shallow, 28)).abs().max() < 1.01 / 255


def test_input_sizes_are_multiples_of_a_patch() -> None:
    with pytest.raises(ValidationError, match="14"):
        Dav2Config(input_size=512)


def rough_weights(model: nn.Module) -> None:
    """Values at which every tensor matters: a fresh model's depth hardly depends on the photograph."""
    generator = torch.Generator().manual_seed(5)
    for name, tensor in model.named_parameters():
        z = torch.randn(tensor.shape, generator=generator)
        leaf = name.rpartition(".")[2]
        if leaf == "lambda1" or (leaf == "weight" and z.ndim == 1):
            z = 1 + 0.02 * z
        elif leaf in ("cls_token", "position_embeddings"):
            z *= 0.2
        else:
            z *= 0.02 if z.ndim == 1 else z[0].numel() ** -0.5
        tensor.data.copy_(z)


@dataclass(frozen=True)
class Published:
    """A metric Depth Anything V2 of transformers, and the folder that it has written."""

    model: Any
    folder: Path

    @property
    def settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = json.loads((self.folder / "config.json").read_text())
        return settings

    def state(self) -> dict[str, Tensor]:
        return load_file(self.folder / "model.safetensors")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    taken: dict[str, Any] = {"out_indices": [3, 6, 9, 12]}
    backbone = Dinov2Config(
        image_size=518,
        hidden_size=384,
        num_attention_heads=6,
        **taken,
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(backbone_config=backbone, depth_estimation_type="metric", max_depth=80)
    model = DepthAnythingForDepthEstimation(config).eval()
    rough_weights(model)
    folder = tmp_path_factory.mktemp("published")
    model.save_pretrained(folder)
    return Published(model, folder)


def test_transformers_layout(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same depth as transformers', once it has the authors' positions: away from 518 x 518 its own differ."""
    config, tensors = convert_dav2_hf(published.state(), published.settings)
    assert config == Dav2Config(encoder="vits", max_depth=80)
    model = Dav2Coarse(config).eval()
    load_strictly(model, tensors)

    embeddings = published.model.backbone.embeddings
    assert torch.equal(model.vit.pos_embed, embeddings.position_embeddings)
    monkeypatch.setattr(
        embeddings,
        "interpolate_pos_encoding",
        lambda _x, height, width: resize_positions(embeddings.position_embeddings, height // 14, width // 14),
    )
    rgb = torch.from_numpy(noise(112, 154).copy()).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        expected = published.model(pixel_values=(rgb - model.mean) / model.std).predicted_depth
        depth = model(rgb).depth[:, 0]
    assert expected.std() > 1  # metres: it depends on the photograph
    assert (depth - expected).abs().max() < 1e-5 * expected.max()


def edited(settings: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A config.json with one value changed, of the backbone for `backbone_config.KEY`; None takes it out."""
    group, _, leaf = key.rpartition(".")
    part = settings[group] if group else settings
    if value is None:
        del part[leaf]
    else:
        part[leaf] = value
    return settings


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("model_type", "dpt", ["model_type", "dpt"]),
        ("depth_estimation_type", "relative", ["relative", "hf:org/name"]),
        ("depth_estimation_type", None, ["relative", "hf:org/name"]),
        ("max_depth", None, ["max_depth", "None"]),
        ("max_depth", -1, ["max_depth", "-1"]),
        ("max_depth", float("inf"), ["max_depth", "inf"]),
        ("backbone_config", None, ["backbone_config"]),
        ("backbone_config.hidden_size", 1536, ["hidden_size", "1536", "vitl"]),
        ("backbone_config.hidden_size", None, ["num_attention_heads", "12"]),  # the default is vitb's
        ("backbone_config.model_type", "beit", ["beit", "hf:org/name"]),
        ("backbone_config.out_indices", [9, 10, 11, 12], ["out_indices", "[3, 6, 9, 12]"]),  # version 1
        ("backbone_config.num_attention_heads", 12, ["num_attention_heads", "12", "6"]),
        ("backbone_config.hidden_act", "relu", ["hidden_act", "relu"]),
        ("backbone_config.layer_norm_eps", 1e-5, ["layer_norm_eps"]),
    ],
)
def test_settings_that_do_not_fit(key: str, value: Any, words: list[str], published: Published) -> None:
    with pytest.raises(CheckpointError) as caught:
        convert_dav2_hf({}, edited(published.settings, key, value))
    assert all(word in str(caught.value) for word in words)


def test_blocks_named_by_stage(published: Published) -> None:
    settings = edited(published.settings, "backbone_config.out_indices", None)
    assert convert_dav2_hf(published.state(), settings)[0].encoder == "vits"
    settings = edited(settings, "backbone_config.out_features", ["stage9", "stage10", "stage11", "stage12"])
    with pytest.raises(CheckpointError, match="out_features"):
        convert_dav2_hf({}, settings)


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("neck.extra.weight", (1,), ["unknown", "neck.extra.weight"]),
        ("backbone.encoder.layer.3.attention.attention.key.bias", None, ["missing", "layer.3"]),
        ("backbone.encoder.layer.3.attention.attention.query.weight", (384, 96), ["query", "(384, 96)"]),
        ("backbone.encoder.layer.12.attention.attention.query.bias", (384,), ["surplus", "layer.12"]),
        ("backbone.embeddings.position_embeddings", (1, 257, 384), ["position_embeddings", "1370"]),
        ("neck.fusion_stage.layers.1.residual_layer1.convolution2.bias", None, ["missing", "layers.1"]),
    ],
)
def test_tensors_that_do_not_fit(
    name: str, shape: tuple[int, ...] | None, words: list[str], published: Published
) -> None:
    state = published.state()
    if shape is None:
        del state[name]
    else:
        state[name] = torch.empty(shape)
    with pytest.raises(CheckpointError) as caught:
        convert_dav2_hf(state, published.settings)
    assert all(word in str(caught.value) for word in words)


def test_the_same_folder_through_transformers_is_another_network(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a batch goes by: the two compute otherwise away from 518 x 518."""
    others: list[str] = []
    monkeypatch.setattr(
        "prv2cli.coarse.load.load_transformers_coarse", lambda *given: others.append(given[-1])
    )
    native, _ = (
        load_coarse(ModelFile(published.folder, name, None, "c" * 40), torch.device("cpu"))
        for name in ("org/name", "hf:org/name")
    )
    assert isinstance(native, Dav2Network)
    assert (native.identity, others) == ("c" * 40 + " native", ["c" * 40])
