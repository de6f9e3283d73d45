"""Depth networks of transformers as coarse networks: small random ones of each family, saved by transformers itself."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hub_server import HubServer
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from prv2cli.coarse import transformers as transformers_depth
from prv2cli.coarse.load import load_coarse
from prv2cli.coarse.network import CoarseDepth
from prv2cli.coarse.transformers import (
    RELATIVE_RANGE,
    TransformersNetwork,
    describe,
    load_transformers_coarse,
)
from prv2cli.coarse.transformers_input import covering, plan_input
from prv2cli.errors import CheckpointError, InputError, MissingExtraError
from prv2cli.hub.resolve import resolve
from prv2cli.restoration.coarse_map import check_aspect, shrink

CPU = torch.device("cpu")


def dinov2(size: int, patch: int = 14, **settings: Any) -> Any:
    from transformers import Dinov2Config

    return Dinov2Config(
        image_size=size,
        patch_size=patch,
        hidden_size=12,
        num_hidden_layers=4,
        num_attention_heads=2,
        mlp_ratio=2,
        **settings,
    )


def depth_anything(kind: str) -> tuple[Any, Any]:
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, DPTImageProcessor

    config = DepthAnythingConfig(
        backbone_config=dinov2(70, out_indices=[1, 2, 3, 4], reshape_hidden_states=False),
        reassemble_hidden_size=12,
        neck_hidden_sizes=[6, 6, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=6,
        depth_estimation_type=kind,
        max_depth=20 if kind == "metric" else 1,
    )
    processor = DPTImageProcessor(
        size={"height": 70, "width": 70}, keep_aspect_ratio=True, ensure_multiple_of=14
    )
    return DepthAnythingForDepthEstimation(config), processor


def prompt_depth_anything() -> tuple[Any, Any]:
    from transformers import (
        PromptDepthAnythingConfig,
        PromptDepthAnythingForDepthEstimation,
        PromptDepthAnythingImageProcessor,
    )

    config = PromptDepthAnythingConfig(
        backbone_config=dinov2(70, out_indices=[1, 2, 3, 4], reshape_hidden_states=False),
        reassemble_hidden_size=12,
        neck_hidden_sizes=[6, 6, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=6,
        depth_estimation_type="metric",
    )
    processor = PromptDepthAnythingImageProcessor(
        size={"height": 70, "width": 70}, keep_aspect_ratio=True, ensure_multiple_of=14
    )
    return PromptDepthAnythingForDepthEstimation(config), processor


def zoedepth() -> tuple[Any, Any]:
    from transformers import BeitConfig, ZoeDepthConfig, ZoeDepthForDepthEstimation, ZoeDepthImageProcessor

    backbone = BeitConfig(
        image_size=64,
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        use_relative_position_bias=True,
        reshape_hidden_states=False,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = ZoeDepthConfig(
        backbone_config=backbone,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        bottleneck_features=8,
        num_relative_features=4,
        bin_embedding_dim=8,
        num_attractors=[4, 2, 2, 1],
        bin_configurations=[{"n_bins": 8, "min_depth": 0.001, "max_depth": 10.0}],
    )
    processor = ZoeDepthImageProcessor(size={"height": 64, "width": 96}, ensure_multiple_of=32)
    return ZoeDepthForDepthEstimation(config), processor


def depth_pro(*, fov: bool = True) -> tuple[Any, Any]:
    from transformers import DepthProConfig, DepthProForDepthEstimation, DepthProImageProcessor

    config = DepthProConfig(
        fusion_hidden_size=8,
        patch_size=32,
        intermediate_hook_ids=[1, 0],
        intermediate_feature_dims=[8, 8],
        scaled_images_ratios=[0.25, 0.5, 1],
        scaled_images_overlap_ratios=[0.0, 0.5, 0.25],
        scaled_images_feature_dims=[8, 8, 8],
        use_fov_model=fov,
        num_fov_head_layers=1,
        **{f"{part}_model_config": dinov2(32, 8) for part in ("image", "patch", "fov")},
    )
    return DepthProForDepthEstimation(config), DepthProImageProcessor(size={"height": 128, "width": 128})


def dpt() -> tuple[Any, Any]:
    from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessor

    config = DPTConfig(
        hidden_size=12,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=24,
        image_size=96,
        patch_size=16,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[6, 6, 8, 8],
        fusion_hidden_size=8,
    )
    return DPTForDepthEstimation(config), DPTImageProcessor(size={"height": 96, "width": 96})


def dpt_dinov2() -> tuple[Any, Any]:
    """As DINOv2's depth estimators: 256 channels for their projection; the photograph padded, not resized."""
    from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessor

    config = DPTConfig(
        backbone_config=dinov2(70, out_indices=[1, 2, 3, 4], reshape_hidden_states=False),
        neck_hidden_sizes=[6, 6, 8, 8],
        fusion_hidden_size=256,
        use_bias_in_fusion_residual=False,
        add_projection=True,
    )
    processor = DPTImageProcessor(
        do_resize=False,
        do_rescale=False,
        do_pad=True,
        size_divisor=14,
        image_mean=[123.675, 116.28, 103.53],
        image_std=[58.395, 57.12, 57.375],
    )
    return DPTForDepthEstimation(config), processor


def glpn() -> tuple[Any, Any]:
    from transformers import GLPNConfig, GLPNForDepthEstimation, GLPNImageProcessor

    config = GLPNConfig(
        hidden_sizes=[8] * 4,
        depths=[1] * 4,
        num_attention_heads=[1, 1, 2, 2],
        mlp_ratios=[2] * 4,
        decoder_hidden_size=8,
    )
    return GLPNForDepthEstimation(config), GLPNImageProcessor()


BUILDERS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "depth_anything": lambda: depth_anything("relative"),
    "depth_anything_metric": lambda: depth_anything("metric"),
    "prompt_depth_anything": prompt_depth_anything,
    "zoedepth": zoedepth,
    "depth_pro": depth_pro,
    "dpt": dpt,
    "glpn": glpn,
}
MEANING = {
    "depth_anything": ("inverse", "relative"),
    "depth_anything_metric": ("depth", "metre"),
    "prompt_depth_anything": ("depth", "relative"),
    "zoedepth": ("depth", "metre"),
    "depth_pro": ("depth", "metre"),
    "dpt": ("inverse", "relative"),
    "glpn": ("depth", "metre"),
}


def rough_weights(model: nn.Module) -> None:
    """Values at which the photograph matters: the depth of a fresh model is nearly the same everywhere."""
    generator = torch.Generator().manual_seed(3)
    for name, tensor in model.named_parameters():
        z = torch.randn(tensor.shape, generator=generator)
        leaf = name.rpartition(".")[2]
        if leaf == "lambda1" or (leaf == "weight" and z.ndim == 1):
            z = 1 + 0.02 * z
        else:
            z *= 0.1 if z.ndim == 1 else 1.3 * z[0].numel() ** -0.5
        tensor.data.copy_(z)
    # The outputs of rectified heads, in the open range; Depth Pro's field of view, an angle that can be.
    for name, value in (("head.conv3", 1.0), ("head.head.4", 6.0), ("head.layers.4", 3.0)):
        if f"{name}.bias" in dict(model.named_parameters()):
            model.get_submodule(name).bias.data.fill_(value)  # type: ignore[union-attr, operator]
    for name, module in model.named_modules():
        if name == "fov_model.head.layers.2":
            module.bias.data.fill_(60)  # type: ignore[union-attr, operator]


@dataclass(frozen=True)
class Published:
    """A network and its processor in memory, and the folder that transformers wrote of them."""

    model: Any
    processor: Any
    folder: Path

    def documented(self, rgb: np.ndarray) -> Tensor:
        """What transformers' own pipeline gives, at the photograph's size: (H, W)."""
        from transformers import pipeline

        run = pipeline("depth-estimation", model=self.model, image_processor=self.processor, device=CPU)
        depth: Tensor = run(Image.fromarray(rgb))["predicted_depth"]
        return depth

    def network(self) -> TransformersNetwork:
        network = load_transformers_coarse(self.folder, CPU, "hf:org/name", "commit")
        assert isinstance(network, TransformersNetwork)
        return network


def publish(built: tuple[Any, Any], folder: Path) -> Published:
    model, processor = built
    rough_weights(model)
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return Published(model, processor, folder)


@pytest.fixture(scope="module")
def families(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], tuple[Published, TransformersNetwork]]:
    """Each family's network, published and loaded once."""
    made: dict[str, tuple[Published, TransformersNetwork]] = {}

    def get(family: str) -> tuple[Published, TransformersNetwork]:
        if family not in made:
            published = publish(BUILDERS[family](), tmp_path_factory.mktemp(family))
            made[family] = published, published.network()
        return made[family]

    return get


Families = Callable[[str], tuple[Published, TransformersNetwork]]


def scene(height: int = 64, width: int = 96) -> np.ndarray:
    """Smooth colours, an edge and some noise."""
    y, x = np.mgrid[0:height, 0:width] / height
    base = np.stack([np.sin(3 * x), np.cos(4 * y), x * y], axis=-1) * 60 + 128
    base[:, width // 2 :] -= 50
    noise = np.random.default_rng(1).normal(0, 8, base.shape)
    return np.clip(base + noise, 0, 255).astype(np.uint8)


def check(coarse: CoarseDepth, rgb: np.ndarray) -> None:
    """What the pipeline relies on."""
    values = coarse.values
    assert values.shape[:2] == (1, 1)
    assert values.dtype == torch.float32 and values.device == CPU
    assert torch.isfinite(values).all() and (values >= 0).all() and (values > 0).any()
    check_aspect(values.shape[2:], rgb.shape[:2])


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


@pytest.mark.parametrize("family", BUILDERS)
def test_deep_and_large_photographs(family: str, families: Families, monkeypatch: pytest.MonkeyPatch) -> None:
    """The processor gets little of a large photograph, area-averaged, in its range; 16 bits are used."""
    _, network = families(family)
    handed: list[Tensor] = []

    class Spy:
        def __call__(self, images: Tensor, **options: Any) -> Any:
            handed.append(images)
            return processor(images=images, **options)

        def __getattr__(self, name: str) -> Any:
            return getattr(processor, name)

    processor = network.processor
    monkeypatch.setattr(network, "processor", Spy())
    rgb = scene(700, 1050)
    deep = rgb.astype(np.uint16) * 257
    shallow_map, deep_map = network.predict(rgb), network.predict(deep)
    check(shallow_map, rgb)
    nominal = {"glpn": 480 * 640, "depth_pro": 128 * 128, "dpt": 96 * 96, "zoedepth": 64 * 96}.get(
        family, 70 * 105
    )
    assert handed[0].shape[-2] * handed[0].shape[-1] <= 4.1 * nominal
    assert handed[0].shape == handed[1].shape
    assert torch.equal(handed[1], shrink(deep, tuple(handed[1].shape[-2:]))[0] * 255)
    assert (handed[0] - handed[1]).abs().max() < 1.5  # 8-bit averages are rounded twice
    ratio = deep_map.values.log() - shallow_map.values.clamp_min(1e-9).log()
    assert ratio.abs().median() < 0.02


def test_sixteen_bits_are_not_cut(families: Families) -> None:
    """A photograph in the lowest 8 of 16 bits is nearly black, but not black: its depth follows its details."""
    _, network = families("depth_anything_metric")
    dim = scene().astype(np.uint16)
    assert network.predict(dim).values.std() > 0
    assert not torch.equal(network.predict(dim).values, network.predict(np.zeros_like(dim)).values)


@pytest.mark.parametrize("family", BUILDERS)
@pytest.mark.parametrize("size", [(1, 1), (3, 400), (90, 20), (40, 400)])
def test_tiny_photographs_and_strips(family: str, size: tuple[int, int], families: Families) -> None:
    rgb = scene(*size)
    check(families(family)[1].predict(rgb), rgb)


def test_long_photographs_stay_small(families: Families) -> None:
    """Panoramas are run in their aspect at four times the nominal width at most."""
    for family in ("depth_anything", "prompt_depth_anything", "zoedepth"):
        processor = families(family)[1].processor
        plan = plan_input(processor, (2000, 12000))
        assert plan.overrides["keep_aspect_ratio"] is False
        rows, columns = plan.overrides["size"]["height"], plan.overrides["size"]["width"]
        assert columns == 4 * max(processor.size["height"], processor.size["width"])
        assert columns / rows == pytest.approx(6, rel=0.03)
        assert plan.size == (2 * rows, 2 * columns)
    assert max(plan_input(families("glpn")[1].processor, (50, 10**6)).size) <= 4 * math.sqrt(480 * 640)


def test_covering_sizes() -> None:
    assert covering((3000, 4000), (384, 384)) == (384, 512)
    assert covering((4000, 3000), (384, 384)) == (512, 384)
    assert covering((100, 150), (384, 384)) == (100, 150)  # no larger than the photograph
    rows, columns = covering((100, 100_000), (384, 384))
    assert rows * columns <= 4.2 * 384**2
    assert columns / rows == pytest.approx(1000, rel=0.01)


def test_processors_that_do_not_resize(tmp_path: Path) -> None:
    """DINOv2's depth estimators: given multiples of a patch, nothing is left to pad, which would shift the map."""
    published = publish(dpt_dinov2(), tmp_path)
    network = published.network()
    rgb = scene(70, 98)
    coarse = network.predict(rgb)
    assert (coarse.kind, coarse.unit) == ("depth", "relative")
    expected = published.documented(rgb)
    assert expected.std() > 0.005 * expected.mean() > 0
    assert torch.allclose(coarse.values[0, 0], expected.clamp_min(expected.max() / RELATIVE_RANGE), rtol=1e-5)
    assert plan_input(network.processor, (64, 96)).size == (70, 98)
    check(network.predict(scene()), scene())
    large = plan_input(network.processor, (4000, 6000)).size
    assert large[0] * large[1] <= 1.05 * 480 * 640 and large[0] % 14 == large[1] % 14 == 0


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
    assert "dpt" in caplog.text and "relative inverse depth" in caplog.text
    assert network.unit == "relative"


def test_prompts_are_said_to_be_missing(families: Families, caplog: pytest.LogCaptureFixture) -> None:
    published, _ = families("prompt_depth_anything")
    caplog.clear()
    published.network()
    assert "not metres" in caplog.text


@pytest.fixture
def folder(families: Families, tmp_path: Path) -> Path:
    """A folder of a small published network, to be spoilt."""
    return Path(shutil.copytree(families("depth_anything_metric")[0].folder, tmp_path / "published"))


def refused(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_transformers_coarse(folder, CPU, "hf:org/name", "commit")
    message = str(caught.value)
    assert message.startswith("hf:org/name: ") or str(folder) in message
    assert message.count("\n") == 0
    return message


def change_tensors(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, {"format": "pt"})


def change_settings(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_pickles_are_refused(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert "pytorch_model.bin" in refused(folder)
    (folder / "pytorch_model.bin").unlink()
    assert "no weights" in refused(folder)


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("head.conv2.weight", None, ["1 missing", "head.conv2.weight"]),
        ("head.conv9.weight", (3,), ["1 surplus", "head.conv9.weight"]),
        ("head.conv2.weight", (5, 4, 3, 3), ["1 of another shape", "head.conv2.weight"]),
    ],
)
def test_tensors_that_do_not_fit(
    name: str, shape: tuple[int, ...] | None, words: list[str], folder: Path
) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        if shape is None:
            del tensors[name]
        else:
            tensors[name] = torch.zeros(shape)

    change_tensors(folder, change)
    message = refused(folder)
    assert all(word in message for word in words)


def test_tensors_that_are_never_used(folder: Path, families: Families) -> None:
    """Publishers leave out the skip of the lowest fusion block, and leave in constants: the depth is the same."""

    def change(tensors: dict[str, Tensor]) -> None:
        unused = [key for key in tensors if key.startswith("neck.fusion_stage.layers.0.residual_layer1.")]
        assert len(unused) == 4
        for key in unused:
            del tensors[key]
        tensors["backbone.relative_position_index"] = torch.zeros(3)

    change_tensors(folder, change)
    network = load_transformers_coarse(folder, CPU, "hf:org/name", "commit")
    expected = families("depth_anything_metric")[1].predict(scene())
    assert torch.equal(network.predict(scene()).values, expected.values)


def test_damaged_weights(folder: Path) -> None:
    change_tensors(folder, lambda tensors: tensors["head.conv2.weight"].fill_(math.nan))
    assert "head.conv2.weight" in refused(folder)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    assert "model.safetensors" in refused(folder)


def test_weights_in_parts(families: Families, tmp_path: Path) -> None:
    published, network = families("depth_anything_metric")
    published.model.save_pretrained(tmp_path, max_shard_size="40KB")
    published.processor.save_pretrained(tmp_path)
    parts = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(parts) > 1
    loaded = load_transformers_coarse(tmp_path, CPU, "hf:org/name", "commit")
    assert torch.equal(loaded.predict(scene()).values, network.predict(scene()).values)

    parts[1].unlink()
    assert parts[1].name in refused(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(index.read_text().replace(parts[1].name, "../pytorch_model.bin"))
    assert "pytorch_model.bin" in refused(tmp_path)
    index.write_text("[]")
    assert "index" in refused(tmp_path)


def test_half_precision_is_widened(folder: Path) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        for key, tensor in tensors.items():
            tensors[key] = tensor.half()

    change_tensors(folder, change)
    change_settings(folder, dtype="float16")
    network = load_transformers_coarse(folder, CPU, "hf:org/name", "commit")
    check(network.predict(scene()), scene())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "bert"}, ["'bert'", "depth_anything", "zoedepth"]),
        ({"model_type": None}, ["None", "glpn"]),
        ({"model_type": "chmv2"}, ["chmv2", "not depth"]),
        ({"depth_estimation_type": "guessed"}, ["depth_estimation_type"]),
        ({"backbone_config": None, "backbone": "org/other"}, ["org/other", "backbone_config"]),
    ],
)
def test_settings_that_do_not_fit(changes: dict[str, Any], words: list[str], folder: Path) -> None:
    change_settings(folder, **changes)
    message = refused(folder)
    assert all(word in message for word in words)


def test_files_that_are_missing(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()
    assert "preprocessor_config.json" in refused(folder)
    (folder / "config.json").write_text("{")
    assert "config.json" in refused(folder)
    (folder / "config.json").unlink()
    assert "config.json" in refused(folder)


def test_code_in_the_folder_is_never_run(folder: Path) -> None:
    (folder / "evil.py").write_text("raise SystemExit('code was run')\n")
    change_settings(
        folder, auto_map={"AutoModelForDepthEstimation": "evil.Model", "AutoConfig": "evil.Config"}
    )
    check(load_transformers_coarse(folder, CPU, "hf:org/name", "commit").predict(scene()), scene())


def test_without_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"hf: models.*prv2cli\[transformers\]"):
        load_transformers_coarse(folder, CPU, "hf:org/name", "commit")


def test_nothing_is_printed_and_nothing_stays_changed(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    load_transformers_coarse(folder, CPU, "hf:org/name", "commit")
    change_tensors(folder, lambda tensors: tensors.__delitem__("head.conv2.weight"))
    refused(folder)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert capfd.readouterr() == ("", "")


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
