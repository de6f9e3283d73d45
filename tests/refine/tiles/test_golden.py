"""Against reference vectors made with the authors' code: same inputs and weights, outputs within rounding.

dav2_*      Depth Anything V2: tokens, positions, depth
encoder_*   the light encoder, with and without the coarse depth in its stem
fusion_*    C2F and F2C, with coarse features as Depth Anything V2 and as ZoeDepth have them
whole_*     coarse network, light encoder, fusion and the authors' tilings m1, m2 and r8
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_rules import TOLERANCE, Golden, image, normal, uniform
from torch import Tensor, nn

from prv2cli.checkpoints.authors.dav2 import convert_dav2
from prv2cli.checkpoints.authors.patchrefiner import (
    convert_encoder,
    convert_fusion,
    convert_patchrefiner,
    split_networks,
)
from prv2cli.checkpoints.model_file import load_strictly, read_checkpoint, write_tensors
from prv2cli.model.coarse.dav2 import Dav2Coarse
from prv2cli.model.coarse.dinov2 import resize_positions
from prv2cli.model.coarse.output import CoarseOutput
from prv2cli.model.config import BundleConfig, RefinerConfig
from prv2cli.model.layers import crop_to_boxes
from prv2cli.model.refiner.encoder import LightEncoder
from prv2cli.model.refiner.patchrefiner import PatchRefiner
from prv2cli.refine.tiles import authors as paper

PROCESS = (224, 224)


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def load_part(module: nn.Module, tensors: dict[str, Tensor], prefix: str) -> None:
    """Load the tensors under `prefix` into one part of a model."""
    load_strictly(module, {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})


def test_dav2_depth_and_tokens() -> None:
    golden = Golden.load("dav2_vits")
    config, tensors = convert_dav2(golden.state(), max_depth=20)
    model = Dav2Coarse(config).eval()
    load_strictly(model, tensors)
    rgb = image(golden.seed, (1, 3, 140, 182))
    for i, tokens in enumerate(model.read_tokens(rgb)):
        assert golden.error(f"inter{i}_cls", tokens[:, 0]) < TOLERANCE
        assert golden.error(f"inter{i}_patch", tokens[:, 1:]) < TOLERANCE
    assert golden.error("pos_embed_interp", resize_positions(model.vit.pos_embed, 10, 13)) < TOLERANCE
    assert golden.error("depth", model(rgb).depth[:, 0]) < TOLERANCE


@pytest.mark.parametrize("name", ["encoder_conditioned", "encoder_plain"])
def test_light_encoder(name: str) -> None:
    """`encoder_plain` has three input channels: converted, it must ignore the depth that it is given."""
    golden = Golden.load(name)
    config = RefinerConfig.model_validate(
        {"coarse": {"kind": "external", "channels": [32] + 5 * [64]}, "encoder": {"levels": 5}}
    )
    encoder = LightEncoder(config.encoder).eval()
    load_part(encoder, convert_encoder(golden.state(), config), "encoder.")
    depth = uniform("coarse_depth", golden.seed, (1, 1, 192, 256), 0.5, 10)
    levels = encoder(encoder.pixels(encoder.tile(image(golden.seed, (1, 3, 192, 256)), depth)))
    assert len(levels) == 5
    for k, feature in enumerate(levels, start=1):
        assert golden.error(f"feat{5 - k}", feature) < TOLERANCE


@pytest.mark.parametrize("name", ["fusion_dav2", "fusion_zoe"])
def test_fusion(name: str) -> None:
    """C2F's features from level 0 down, the auxiliary depth, every joined level of F2C, and the result."""
    golden = Golden.load(name)
    config, tensors = convert_fusion(golden.state())
    model = PatchRefiner(config).eval()
    for part in ("c2f", "f2c", "head"):
        load_part(getattr(model, part), tensors, f"{part}.")
    model.to(memory_format=torch.channels_last)  # a quarter faster
    coarse, refiner = (
        [
            normal(f"{tag}_feat{i}", golden.seed, (1, channels, *size))
            for i, (channels, size) in enumerate(
                zip(golden.meta[f"{tag}_channels"], golden.meta[f"{tag}_sizes"], strict=True)
            )
        ]
        for tag in ("c", "f")
    )
    height, width = golden.meta["H"], golden.meta["W"]
    depth = uniform("coarse_depth", golden.seed, (1, 1, height, width), 0.5, 10)
    pixels = depth.expand(-1, 4, -1, -1)  # only its size matters here

    c2f = model.c2f(refiner[1:], coarse, pixels)
    names = ("last_feat", "path2", "path3", "path4", "path5", "layer5_rn")
    for part, feature in zip(names, c2f.features, strict=True):
        assert golden.error(f"c2f_{part}", feature) < TOLERANCE
    assert golden.error("c2f_out", c2f.auxiliary_depth) < TOLERANCE

    joined: list[Tensor] = []
    for unit in model.f2c.join_depths:
        unit.register_forward_hook(lambda _module, _inputs, output: joined.append(output))
    depths = torch.cat([depth, c2f.auxiliary_depth], dim=1)
    residual = model.head(model.f2c(coarse, c2f.features, depths))
    for level, feature in enumerate(joined):
        assert golden.error(f"f2c_level{level}", feature) < TOLERANCE
    assert golden.error("offset", residual) < TOLERANCE
    assert golden.error("depth", torch.relu(depth + residual)) < TOLERANCE


class Remembering:
    """A refiner that runs each batch of tiles once: r8 begins with m2's tiles, and m2 with m1's."""

    def __init__(self, model: PatchRefiner) -> None:
        self.model = model
        self.seen: dict[bytes, Tensor] = {}

    def refine_cropped(
        self, rgb: Tensor, depth: Tensor, features: Sequence[Tensor], steeper: float = 1.0
    ) -> Tensor:
        key = hashlib.sha256(rgb.numpy().tobytes() + depth.numpy().tobytes()).digest()
        if key not in self.seen:
            self.seen[key] = self.model.refine_cropped(rgb, depth, features)
        return self.seen[key]


@dataclass(frozen=True)
class Whole:
    """A converted PatchRefiner V2 with Depth Anything V2, and a photograph of noise."""

    golden: Golden
    network: Dav2Coarse
    model: PatchRefiner
    refiner: Remembering
    image: Tensor
    coarse: CoarseOutput

    def refine(self, mode: str) -> Tensor:
        setup = paper.PaperSetup(process=PROCESS, split=(2, 2))
        rng = random.Random(self.golden.seed)
        return paper.refine_paper(self.refiner, self.image, self.coarse, setup, mode, rng)  # type: ignore[arg-type]


# Tiles of the first are used as they are cut, those of the second are resized and not square. The first is
# run without m2 and r8: they would add 13 tiles and no arithmetic that the second does not have.
SIZES = ["whole_448x448", "whole_320x480"]


@pytest.fixture(scope="module", params=SIZES)
def whole(request: pytest.FixtureRequest) -> Whole:
    golden = Golden.load(request.param)
    state = golden.state()
    config, tensors = convert_patchrefiner(state)
    model = PatchRefiner(config).eval()
    load_strictly(model, tensors)
    model.to(memory_format=torch.channels_last)
    coarse_config, coarse_tensors = convert_dav2(
        split_networks(state).coarse, max_depth=golden.meta["max_depth"]
    )
    network = Dav2Coarse(coarse_config).eval()
    load_strictly(network, coarse_tensors)
    photograph = image(golden.seed, (1, 3, *golden.meta["image_raw_shape"]))
    with torch.inference_mode():
        coarse = network(paper.to_process(photograph, PROCESS))
    return Whole(golden, network, model, Remembering(model), photograph, coarse)


def lowest_first(name: str, features: Sequence[Tensor], golden: Golden) -> Iterator[float]:
    """Errors of the features that are stored; the authors number them from the lowest resolution up."""
    for i, feature in enumerate(reversed(features)):
        if f"{name}{i}" in golden.arrays:
            yield golden.error(f"{name}{i}", feature)


def test_whole_coarse_features_and_crops(whole: Whole) -> None:
    golden = whole.golden
    height, width = golden.meta["image_raw_shape"]
    tile = (height // 2, width // 2)
    corners = [(top, left) for top in (0, tile[0]) for left in (0, tile[1])]
    boxes = paper.process_boxes(corners, tile, (height, width), PROCESS)
    crops = paper.crop_coarse(whole.coarse, boxes, PROCESS)
    assert torch.allclose(boxes.float(), torch.from_numpy(golden.arrays["m1_bboxs_feat"][:, 1:]))
    assert golden.error("coarse_depth", whole.coarse.depth) < TOLERANCE
    assert all(e < TOLERANCE for e in lowest_first("coarse_feat", whole.coarse.features, golden))
    assert golden.error("m1_roi_depth", crops.depth) < TOLERANCE
    assert all(e < TOLERANCE for e in lowest_first("m1_roi_feat", crops.features, golden))


def test_whole_m1(whole: Whole) -> None:
    depth = whole.refine("m1")
    tiles = depth.unflatten(2, (2, 224)).unflatten(4, (2, 224)).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
    assert whole.golden.error("depth_m1", depth) < TOLERANCE
    assert whole.golden.error("m1_patches", tiles) < TOLERANCE


@pytest.mark.parametrize("whole", SIZES[1:], indirect=True)
def test_whole_m2(whole: Whole) -> None:
    depth = whole.refine("m2")
    seam = torch.from_numpy(whole.golden.arrays["depth_m2_seam"])
    assert whole.golden.error("depth_m2", depth) < TOLERANCE
    assert (depth[0, 0, 200:248, 200:248] - seam).abs().max() < TOLERANCE * seam.abs().max()


@pytest.mark.parametrize("whole", SIZES[1:], indirect=True)
def test_whole_r8(whole: Whole) -> None:
    golden = whole.golden
    size = tuple(golden.meta["image_raw_shape"])
    tile = (size[0] // 2, size[1] // 2)
    rng = random.Random(golden.seed)
    drawn = [c for _ in range(2) for c in paper.random_corners(rng, tile, size, 4)]
    boxes = paper.process_boxes(drawn, tile, size, PROCESS).float()
    assert torch.allclose(boxes, torch.from_numpy(golden.arrays["r8_bboxs_feat"][:, 1:]))
    assert golden.error("depth_r8", whole.refine("r8")) < TOLERANCE


@pytest.mark.parametrize("whole", SIZES[:1], indirect=True)
def test_whole_training_step(whole: Whole) -> None:
    """Two tiles of two photographs at once, at fractional positions: the way of training."""
    golden = whole.golden
    coarse = whole.network(uniform("lr", golden.seed, (2, 3, *PROCESS), 0, 1))
    boxes = torch.tensor(golden.meta["train_bboxs"]) / PROCESS[0]
    index = torch.arange(2)
    depth = whole.model.refine_cropped(
        uniform("crops", golden.seed, (2, 3, *PROCESS), 0, 1),
        crop_to_boxes(coarse.depth, boxes, index, PROCESS),
        whole.model.crop(coarse.features, boxes, index, PROCESS),
    )
    assert golden.error("train_depth_pred", depth) < TOLERANCE


@pytest.mark.parametrize("whole", SIZES[1:], indirect=True)
def test_whole_bundle_from_image_to_depth(whole: Whole, tmp_path: Path) -> None:
    """Both networks from one file and nothing else from the reference: the image in, depth out."""
    config = BundleConfig(coarse=whole.network.config, refiner=whole.model.config, process_size=PROCESS)
    parts = {"coarse": whole.network, "refiner": whole.model}
    tensors = {f"{part}.{k}": v for part, model in parts.items() for k, v in model.state_dict().items()}
    write_tensors(tmp_path / "bundle.safetensors", tensors, config, {})
    bundle = read_checkpoint(tmp_path / "bundle.safetensors")
    assert isinstance(bundle.config, BundleConfig)
    network, model = bundle.part("coarse").build(), bundle.part("refiner").build()
    coarse = network(paper.to_process(whole.image, bundle.config.process_size))
    setup = paper.PaperSetup(process=bundle.config.process_size, split=(2, 2))
    refiner: Any = model.to(memory_format=torch.channels_last)
    depth = paper.refine_paper(refiner, whole.image, coarse, setup, "m1")
    assert whole.golden.error("depth_m1", depth) < TOLERANCE
