"""Small depth networks of every family of transformers, with rough weights, as their publishers save them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from prv2cli.coarse.aspect import check_aspect
from prv2cli.coarse.network import CoarseDepth
from prv2cli.coarse.transformers.network import TransformersNetwork, load_transformers_coarse

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

    taken: dict[str, Any] = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
    backbone = BeitConfig(
        image_size=64,
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        use_relative_position_bias=True,
        reshape_hidden_states=False,
        **taken,
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


def chmv2() -> tuple[Any, Any]:
    from transformers import CHMv2Config, CHMv2ForDepthEstimation, CHMv2ImageProcessor, DINOv3ViTConfig

    backbone = DINOv3ViTConfig(  # type: ignore[call-arg]
        image_size=64,
        patch_size=16,
        hidden_size=24,
        intermediate_size=32,
        num_attention_heads=2,
        num_hidden_layers=4,
        num_register_tokens=2,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=True,
        apply_layernorm=True,
        return_class_token=True,
    )
    config = CHMv2Config(
        backbone_config=backbone,
        post_process_channels=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
        number_output_channels=16,
    )
    processor = CHMv2ImageProcessor(size={"height": 64, "width": 64}, keep_aspect_ratio=True)
    return CHMv2ForDepthEstimation(config), processor


def tipsv2_dpt() -> tuple[Any, Any]:
    from transformers import (
        Tipsv2DptConfig,
        Tipsv2DptForDepthEstimation,
        Tipsv2DptImageProcessor,
        Tipsv2VisionConfig,
    )

    backbone = Tipsv2VisionConfig(  # type: ignore[call-arg]
        image_size=112,
        patch_size=14,
        hidden_size=16,
        num_attention_heads=2,
        num_hidden_layers=4,
        out_indices=[1, 2, 3, 4],
        apply_layernorm=True,
        reshape_hidden_states=False,
    )
    config = Tipsv2DptConfig(
        backbone_config=backbone, neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8, num_depth_bins=16
    )
    processor = Tipsv2DptImageProcessor(size={"height": 112, "width": 112})
    return Tipsv2DptForDepthEstimation(config), processor


BUILDERS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "depth_anything": lambda: depth_anything("relative"),
    "depth_anything_metric": lambda: depth_anything("metric"),
    "prompt_depth_anything": prompt_depth_anything,
    "zoedepth": zoedepth,
    "depth_pro": depth_pro,
    "dpt": dpt,
    "glpn": glpn,
    "chmv2": chmv2,
    "tipsv2_dpt": tipsv2_dpt,
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
            model.get_parameter(f"{name}.bias").data.fill_(value)
    if "fov_model.head.layers.2.bias" in dict(model.named_parameters()):
        model.get_parameter("fov_model.head.layers.2.bias").data.fill_(60)


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
    assert values.dtype == torch.float32
    assert values.device == CPU
    assert torch.isfinite(values).all()
    assert (values >= 0).all()
    assert (values > 0).any()
    check_aspect(values.shape[2:], rgb.shape[:2])
