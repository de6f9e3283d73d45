"""The networks in every configuration: they build, run, learn with all parameters, and survive a file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from prv2cli.checkpoints.model_file import Checkpoint, load_strictly, read_checkpoint, save_checkpoint
from prv2cli.errors import CheckpointError, ConfigError
from prv2cli.model.build import build_model
from prv2cli.model.coarse.lite import LiteCoarse
from prv2cli.model.config import LiteConfig, RefinerConfig
from prv2cli.model.layers import crop_to_boxes, positive_part
from prv2cli.model.refiner.encoder import LightEncoder, widen_stem
from prv2cli.model.refiner.patchrefiner import PatchRefiner
from prv2cli.model.timm_pyramid import import_timm

ENCODERS = [
    "mobilenetv4_conv_small",
    "resnet18",
    "efficientnet_b0",
    "convnext_atto",  # its first stride is 4
    "mobilenetv3_small_100",
]
SMALL_ENCODER = "mobilenetv3_small_100"
BOXES = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.3, 0.25, 0.8, 0.75]])
INDEX = torch.tensor([0, 0])


def small_config(name: str = SMALL_ENCODER, **groups: Any) -> RefinerConfig:
    """A refiner of three levels; `groups` replace or extend the settings."""
    settings: dict[str, Any] = {
        "coarse": {"channels": [4, 6, 8, 8]},
        "encoder": {"name": name, "levels": 3},
        "c2f": {"widths": [8, 8, 12, 16], "taps": "own", "pixel_level": True},
        "f2c": {"widths": [8, 8, 12, 16], "decoder_widths": [8, 8, 12], "decoder_hidden": "output"},
        "head": {"kind": "two-surface", "width": 8},
    }
    for group, values in groups.items():
        settings[group] = settings[group] | values if isinstance(values, dict) else values
    return RefinerConfig.model_validate(settings)


def build(config: RefinerConfig) -> PatchRefiner:
    torch.manual_seed(0)
    model = build_model(config).eval()
    assert isinstance(model, PatchRefiner)
    return model


def run(model: PatchRefiner) -> tuple[Tensor, Tensor]:
    """Two tiles, wider than high, of one photograph: their coarse depth and their refined depth."""
    generator = torch.Generator().manual_seed(1)
    side = model.config.tile_multiple
    rgb = torch.rand(2, 3, side, 2 * side, generator=generator)
    depth = torch.rand(2, 1, side, 2 * side, generator=generator) + 1
    whole = torch.rand(1, 4, 24, 48, generator=generator)
    features = (
        model.encode_image(whole[:, :3], whole[:, 3:])
        if model.guide is not None
        else [torch.rand(1, c, 24, 48, generator=generator) for c in model.config.coarse.channels]
    )
    return depth, model.refine_cropped(rgb, depth, model.crop(features, BOXES, INDEX, rgb.shape[-2:]))


def assert_learns_everywhere(model: nn.Module, output: Tensor) -> None:
    """Every parameter is part of the output; those of our own modules move it."""
    output.square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{name} is never used"
        # Inside timm's networks a gradient may start at zero (a norm whose weight starts at zero).
        assert ".network." in f".{name}" or parameter.grad.abs().sum() > 0, f"{name} gets no gradient"


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("stride", [1, 2])
def test_any_encoder(encoder: str, stride: int) -> None:
    model = build(small_config(encoder, encoder={"space_to_depth": stride}))
    depth, refined = run(model)
    assert refined.shape == depth.shape
    assert torch.isfinite(refined).all()
    assert_learns_everywhere(model, refined)


C2F_VARIANTS = [{"guidance": "gated"}, {"guidance": "fused"}, {"guidance": "none"}, {"enabled": False}]


@pytest.mark.parametrize("variant", C2F_VARIANTS, ids=lambda variant: str(next(iter(variant.values()))))
@pytest.mark.parametrize(
    "groups",
    [
        {"encoder": {"space_to_depth": 4}},
        {"encoder": {"space_to_depth": 2}, "c2f": {"taps": "below", "pixel_level": False}},
        {"head": {"kind": "residual"}, "align_corners": True},
        {
            "depth_space": "metres",
            "coarse": {"kind": "external"},
            "c2f": {"taps": "below", "pixel_level": False},
            "f2c": {"decoder_hidden": "input"},
            "head": {"kind": "residual"},
            "align_corners": True,
        },
    ],
    ids=["stride-4", "stride-2-taps-below", "residual", "paper"],
)
def test_any_configuration(groups: dict[str, Any], variant: dict[str, Any]) -> None:
    groups = groups | {"c2f": groups.get("c2f", {}) | variant}
    model = build(small_config(**groups))
    depth, refined = run(model)
    assert refined.shape == depth.shape
    assert_learns_everywhere(model, refined)


@pytest.mark.parametrize(
    "groups",
    [
        {"encoder": {"space_to_depth": 4}},
        {"encoder": {"space_to_depth": 2}},
        {"head": {"kind": "residual"}},
        {"head": {"kind": "residual"}, "depth_space": "metres", "coarse": {"kind": "external"}},
    ],
    ids=["two-surface-4", "two-surface-2", "residual", "residual-metres"],
)
def test_zero_head_leaves_the_coarse_depth_as_it_is(groups: dict[str, Any]) -> None:
    model = build(small_config(**groups))
    name = "to_residual" if model.config.head.kind == "residual" else "to_surfaces"
    for parameter in model.head.get_submodule(name).parameters():
        nn.init.zeros_(parameter)
    depth, refined = run(model)
    assert torch.equal(refined, depth)


@pytest.mark.parametrize("pixel_level", [True, False])
def test_without_c2f_the_encoder_goes_to_f2c_unguided(pixel_level: bool) -> None:
    config = small_config(c2f={"enabled": False, "pixel_level": pixel_level})
    model = build(config)
    c2f, pixels = model.c2f, model.encoder.pixel_channels
    tile = torch.randn(1, pixels, 32, 32)
    encoder = [torch.randn(1, n, 16 >> k, 16 >> k) for k, n in enumerate(model.encoder.channels)]
    coarse = [torch.randn(1, n, 32 >> k, 32 >> k) for k, n in enumerate(config.coarse.channels)]
    out = c2f(encoder, coarse, tile)
    expected = [(1, width, 32 >> k, 32 >> k) for k, width in enumerate(config.c2f.widths)]
    assert [tuple(feature.shape) for feature in out.features] == expected
    unguided = c2f(encoder, [torch.zeros_like(c) for c in coarse], tile)
    assert all(torch.equal(a, b) for a, b in zip(out.features, unguided.features, strict=True))
    # Level by level: what lies below changes nothing above.
    encoder[2] = torch.zeros_like(encoder[2])
    changed = c2f(encoder, coarse, tile).features
    assert torch.equal(changed[0], out.features[0])
    assert not torch.equal(changed[3], out.features[3])


def test_lite_learns_everywhere() -> None:
    model = LiteCoarse(LiteConfig(encoder=SMALL_ENCODER, width=8)).eval()
    depth, features = model(torch.rand(2, 3, 64, 96))
    assert depth.shape == (2, 1, 64, 96)
    assert [f.shape[-2:] for f in features] == [(64 // 2**k, 96 // 2**k) for k in range(6)]
    assert_learns_everywhere(model, depth.log())


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "tf_efficientnet_lite0"])
def test_widened_stem_ignores_the_depth_at_first(name: str) -> None:
    """ConvNeXt's stem has a bias, a tf_ network's is a Conv2dSame."""
    network = import_timm().create_model(name, features_only=True)
    stem = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    wide = widen_stem(stem)
    rgb = torch.rand(1, 3, 33, 47)
    assert type(wide) is type(stem)
    assert wide.in_channels == 4
    assert (wide.bias is None) == (stem.bias is None)
    for depth in (torch.zeros(1, 1, 33, 47), 1e3 * torch.randn(1, 1, 33, 47)):
        assert torch.allclose(wide(torch.cat([rgb, depth], dim=1)), stem(rgb), atol=1e-6)
    wide(torch.cat([rgb, torch.ones(1, 1, 33, 47)], dim=1)).sum().backward()
    assert wide.weight.grad is not None
    assert wide.weight.grad[:, 3].abs().sum() > 0


def test_encoder_statistics_come_from_its_weights() -> None:
    """AdvProp EfficientNets were trained on -1..1, most others with ImageNet's mean and deviation."""
    config = small_config("tf_efficientnet_b0.ap_in1k").encoder
    assert LightEncoder(config).mean.flatten().tolist() == [0.5, 0.5, 0.5]
    assert LightEncoder(small_config().encoder).mean.flatten().tolist() == pytest.approx(
        [0.485, 0.456, 0.406]
    )


@pytest.mark.parametrize(
    ("encoder", "words"),
    [
        (
            {"name": "mobilnetv4_conv_small"},
            ["encoder.name", "mobilnetv4_conv_small", "mobilenetv4_conv_small"],
        ),
        ({"name": "resnet18.no_such_tag"}, ["encoder.name", "resnet18.no_such_tag"]),
        ({"name": "convnext_atto", "levels": 1}, ["encoder.levels", "convnext_atto", "2 to 5"]),
        ({"space_to_depth": 2, "head": "residual"}, ["head.kind", "space_to_depth"]),
    ],
)
def test_impossible_configurations_name_the_key(encoder: dict[str, Any], words: list[str]) -> None:
    head = {"kind": encoder.pop("head", "two-surface")}
    levels = encoder.get("levels", 3)
    config = small_config(
        encoder=encoder,
        head=head,
        coarse={"channels": [4, 6, 8, 8][: levels + 1]},
        c2f={"widths": [8, 8, 12, 16][: levels + 1]},
        f2c={"widths": [8, 8, 12, 16][: levels + 1], "decoder_widths": [8, 8, 12][:levels]},
    )
    with pytest.raises(ConfigError) as caught:
        build_model(config)
    assert all(word in str(caught.value) for word in words)


def test_crop_of_the_whole_map_is_the_map() -> None:
    maps = torch.rand(2, 3, 5, 7)
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(2, 4)
    assert torch.allclose(crop_to_boxes(maps, boxes, torch.tensor([1, 0]), (5, 7)), maps.flip(0), atol=1e-6)


def test_crop_samples_at_pixel_centres() -> None:
    ramp = ((torch.arange(8) + 0.5) / 8).expand(1, 1, 4, 8)  # the value is the position
    crop = crop_to_boxes(ramp, torch.tensor([[0.25, 0.0, 0.75, 1.0]]), torch.tensor([0]), (4, 16))
    assert torch.allclose(crop[0, 0, 0], 0.25 + (torch.arange(16) + 0.5) / 32, atol=1e-6)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PatchRefiner]:
    model = build(small_config(encoder={"space_to_depth": 2}))
    path = tmp_path_factory.mktemp("models") / "small.safetensors"
    save_checkpoint(path, model, model.config, {"data": "none"})
    return path, model


def test_checkpoint_round_trip(saved: tuple[Path, PatchRefiner]) -> None:
    path, model = saved
    checkpoint = read_checkpoint(path)
    again = checkpoint.build()
    assert isinstance(again, PatchRefiner)
    assert checkpoint.config == model.config
    assert checkpoint.provenance == {"data": "none"}
    assert len(checkpoint.sha256) == 64
    with torch.inference_mode():
        assert torch.equal(run(again)[1], run(model)[1])


def test_lite_checkpoint_round_trip(tmp_path: Path) -> None:
    config = LiteConfig(encoder=SMALL_ENCODER, width=8)
    model = LiteCoarse(config).eval()
    save_checkpoint(tmp_path / "lite.safetensors", model, config, {})
    rgb = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        again = read_checkpoint(tmp_path / "lite.safetensors").build()
        assert torch.equal(again(rgb).depth, model(rgb).depth)


@pytest.mark.parametrize("fault", ["missing", "surplus", "misshapen"])
def test_tensors_that_do_not_fit_are_named(saved: tuple[Path, PatchRefiner], fault: str) -> None:
    checkpoint = read_checkpoint(saved[0])
    tensors = dict(checkpoint.tensors)
    name = "c2f.to_depth.weight"
    if fault == "missing":
        del tensors[name]
    elif fault == "surplus":
        name = "c2f.unheard_of.weight"
        tensors[name] = torch.zeros(1)
    else:
        tensors[name] = torch.zeros(2, 3)
    with pytest.raises(CheckpointError, match=name):
        Checkpoint(checkpoint.config, tensors).build()


def test_a_tensor_of_another_type_is_converted(saved: tuple[Path, PatchRefiner]) -> None:
    path, model = saved
    load_strictly(build(model.config), {k: v.double() for k, v in read_checkpoint(path).tensors.items()})


def test_damaged_values_are_refused(saved: tuple[Path, PatchRefiner], tmp_path: Path) -> None:
    model = build(saved[1].config)
    with torch.no_grad():
        model.c2f.to_depth.weight[0, 0] = float("nan")
    save_checkpoint(tmp_path / "nan.safetensors", model, model.config, {})
    with pytest.raises(CheckpointError, match=r"c2f\.to_depth\.weight"):
        read_checkpoint(tmp_path / "nan.safetensors")


def test_files_that_are_no_models_are_refused(saved: tuple[Path, PatchRefiner], tmp_path: Path) -> None:
    whole = saved[0].read_bytes()
    foreign, truncated, text = (
        tmp_path / "foreign.safetensors",
        tmp_path / "cut.safetensors",
        tmp_path / "a.txt",
    )
    save_file({"weight": torch.zeros(1)}, foreign)
    truncated.write_bytes(whole[: len(whole) // 2])
    text.write_text("not a model")
    for path in (foreign, truncated, text, tmp_path, tmp_path / "absent.safetensors"):
        with pytest.raises(CheckpointError, match=path.name):
            read_checkpoint(path)


@pytest.mark.parametrize(
    "header",
    [
        "{",
        "[]",
        '{"format": 1}',
        '{"format": 99, "config": {}}',
        '{"format": 1, "config": {"kind": "refiner", "no": 1}}',
    ],
)
def test_wrong_headers_are_refused(tmp_path: Path, header: str) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.zeros(1)}, path, {"prv2": header})
    with pytest.raises(CheckpointError, match=path.name):
        read_checkpoint(path)


def _told_by(program: str) -> Any:
    """The JSON that a Python program prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


_WITHOUT_COMPILED_TORCHVISION = """
import json, sys
import torch

def refuse(path):
    raise OSError(f"{path}: undefined symbol")  # a torchvision that was compiled against another torch

torch.ops.load_library = refuse
from prv2cli.model.timm_pyramid import declare_missing_torchvision_ops, import_timm
timm = import_timm()
network = timm.create_model("mobilenetv3_small_050", features_only=True).eval()
levels = network(torch.rand(1, 3, 32, 32))
json.dump([timm.__name__, len(levels), declare_missing_torchvision_ops()], sys.stdout)
"""


def test_timm_imports_beside_a_torchvision_that_does_not_load() -> None:
    assert _told_by(_WITHOUT_COMPILED_TORCHVISION) == ["timm", 5, []]


_COMPILER_AFTER_TIMM = """
import json, sys
from prv2cli.model.timm_pyramid import import_timm
timm = import_timm()
loaded = [name for name in sys.modules if name.startswith("torch._dynamo")]
import torch, torchvision
boxes = torch.tensor([[0, 0, 0, 4, 4.0]])
cut = torchvision.ops.roi_align(torch.ones(1, 1, 8, 8), boxes, 2)  # asks whether it may compile
double = torch.compile(lambda x: 2 * x, backend="eager")
model = timm.create_model("naflexvit_base_patch16_gap", num_classes=0, depth=1, embed_dim=48, num_heads=1)
tokens = model(torch.rand(1, 3, 32, 32))  # one of its functions is kept out of the compiler
json.dump([loaded, cut.sum().item(), double(torch.ones(1)).item(), list(tokens.shape)], sys.stdout)
"""


def test_timm_is_imported_without_the_compiler_which_works_afterwards() -> None:
    assert _told_by(_COMPILER_AFTER_TIMM) == [[], 4.0, 2.0, [1, 48]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_crops_in_half_precision_lie_where_they_should(dtype: torch.dtype) -> None:
    """Only the values are rounded: a ramp of a value per pixel tells the places."""
    ramp = torch.arange(448.0).expand(1, 1, 448, 448) / 448
    boxes, index = torch.tensor([[0.9, 0.9, 1.0, 1.0]]), torch.zeros(1, dtype=torch.long)
    exact = crop_to_boxes(ramp, boxes, index, (45, 45))
    half = crop_to_boxes(ramp.to(dtype), boxes, index, (45, 45))
    assert half.dtype == dtype
    assert torch.equal(half.float().diff().ge(0).all(), torch.tensor(True))
    assert (half.float() - exact).abs().max() <= 2 * torch.finfo(dtype).eps


def test_the_positive_part_lets_a_depth_at_zero_come_back() -> None:
    """Above 0 as a ReLU; a pixel below gets no more than the mean pixel above, and only upwards."""
    x = torch.tensor([-2.0, -1.0, 3.0, 1.0], requires_grad=True)
    depth = positive_part(x)
    assert torch.equal(depth, torch.tensor([0.0, 0.0, 3.0, 1.0]))
    depth.backward(torch.tensor([-50.0, 4.0, 0.5, -1.5]))
    assert torch.equal(x.grad, torch.tensor([-1.0, 0.0, 0.5, -1.5]))  # type: ignore[arg-type]
    x = torch.full((4,), -1.0, requires_grad=True)
    positive_part(x).backward(torch.tensor([-1e7, -1e7, 1e7, 0.0]))
    assert torch.equal(x.grad, torch.tensor([-0.25, -0.25, 0.0, 0.0]))  # type: ignore[arg-type]
