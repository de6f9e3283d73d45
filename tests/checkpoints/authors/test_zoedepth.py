"""ZoeDepth under its authors' names, converted: the depth and features of the authors' code come out.

zoedepth        ZoeDepth (isl-org, commit d87f17b) on MiDaS (isl-org, commit 4545977) and timm 0.6.12: a small BEiT
                with all other parts as in the published network; both kinds of bins, and two sizes that are no squares
whole_zoedepth  PatchRefinerPlus (zhyever/PatchRefinerV2, commit a81f726) with that ZoeDepth, its own copy of the code,
                on the MiDaS that it loads (AyaanShah2204, commit d91090e) and timm 1.0.31. Changed in it: the widths
                of the coarse branch and of the fusion, and 384 x 512, which its resizing has as a constant
official_zoedepth  names, types and shapes of the published network (BEiT-L, softplus bins), from the first

Both ran on the CPU in float32 with torch 2.15.0. Both generations of code gave the same numbers, bit for bit, for the
first case. Weights are made from their names (golden_rules.py).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import typer
from golden_rules import DATA, TOLERANCE, Golden, image, weight
from torch import Tensor
from typer.testing import CliRunner

from prv2cli.checkpoints.authors.zoedepth import convert_zoedepth
from prv2cli.checkpoints.model_file import load_strictly, read_checkpoint
from prv2cli.cli.commands.models.convert import convert
from prv2cli.coarse.load import load_coarse
from prv2cli.coarse.network import bundle_input
from prv2cli.coarse.zoedepth import ZoeDepthNetwork
from prv2cli.errors import CheckpointError, ConfigError, MissingExtraError, UsageError
from prv2cli.hub.resolve import resolve
from prv2cli.model.coarse import zoedepth
from prv2cli.model.coarse.zoedepth import ZoeDepthCoarse
from prv2cli.model.config import BundleConfig, Dav2Config, LiteConfig, ZoeDepthConfig
from prv2cli.refine.refiner import Refiner
from prv2cli.refine.tiles import authors as paper
from prv2cli.resampling.area import resize_photograph, shrink

# The bins are moved by d / (1 + 300 d^2), level after level, which multiplies what rounding leaves: 1.6e-5 was seen.
DEPTH_TOLERANCE = 5e-5
VIT = "core.core.pretrained.model"
State = dict[str, Tensor]


def with_buffers(golden: Golden) -> State:
    """The authors' state dict with what is no parameter: indices and counters of constant content."""
    buffers = {
        name: torch.zeros(shape, dtype=getattr(torch, dtype))
        for name, (dtype, shape) in golden.meta["buffers"].items()
    }
    return golden.state() | buffers


@pytest.fixture(scope="module")
def golden() -> Golden:
    return Golden.load("zoedepth")


@pytest.fixture(scope="module")
def state(golden: Golden) -> State:
    return with_buffers(golden)


@pytest.fixture(scope="module")
def normed(golden: Golden, state: State) -> State:
    """The same with bins within a range: their attractors are made of two numbers each."""
    changed = {name: weight(name, tuple(shape), golden.seed) for name, shape in golden.meta["normed"].items()}
    return state | {name: tensor * golden.meta["gains"]["attractors"] for name, tensor in changed.items()}


def built(state: State, max_depth: float | None = None) -> ZoeDepthCoarse:
    config, tensors = convert_zoedepth(state, max_depth=max_depth)
    model = ZoeDepthCoarse(config).eval()
    load_strictly(model, tensors)
    return model


@pytest.mark.parametrize("size", [(384, 512), (160, 96)])
def test_depth_and_features_of_the_authors_code(golden: Golden, state: State, size: tuple[int, int]) -> None:
    """24 x 32 and 10 x 6 patches where BEiT was trained with 24 x 24: its bias of positions is resized, too."""
    with torch.inference_mode():
        out = built(state)(image(golden.seed, (1, 3, *size)))
    case = f"softplus_{size[0]}x{size[1]}"
    assert golden.error(f"{case}_depth", out.depth) < DEPTH_TOLERANCE
    assert len(out.features) == 6
    for level, feature in enumerate(out.features):
        assert golden.error(f"{case}_level{level}", feature) < TOLERANCE


def test_bins_within_a_range(golden: Golden, normed: State) -> None:
    model = built(normed, max_depth=80)
    assert model.config.input_size == (384, 768)
    with torch.inference_mode():
        depth = model(image(golden.seed, (1, 3, 160, 96))).depth
    assert golden.error("normed_160x96_depth", depth) < DEPTH_TOLERANCE


@pytest.fixture(scope="module")
def published() -> dict[str, Any]:
    entries: dict[str, Any] = json.loads((DATA / "official_zoedepth.json").read_text())
    return entries


def test_the_published_network(published: dict[str, Any]) -> None:
    """Each tensor arrives once, but for the classifier of BEiT and constants; settings as in transformers.

    A tensor is one number, repeated by strides of zero. The joined matrix of an attention arrives as three.
    """
    theirs = {
        name: torch.tensor(float(i)).to(getattr(torch, dtype)).expand(shape)
        for i, (name, (dtype, shape)) in enumerate(published.items())
    }
    config, ours = convert_zoedepth(theirs)
    assert config.input_size == (384, 512)
    assert {
        key: config.transformers[key] for key in ("neck_hidden_sizes", "fusion_hidden_size", "num_attractors")
    } == {
        "neck_hidden_sizes": [256, 512, 1024, 1024],
        "fusion_hidden_size": 256,
        "num_attractors": [16, 8, 4, 1],
    }
    backbone = config.transformers["backbone_config"]
    assert (backbone["image_size"], backbone["num_attention_heads"]) == (384, 16)
    assert backbone["out_features"] == ["stage6", "stage12", "stage18", "stage24"]

    arrived = [float(tensor.reshape(-1)[0]) for tensor in ours.values()]
    joined = [float(t.reshape(-1)[0]) for name, t in theirs.items() if name.endswith("qkv.weight")]
    assert all(arrived.count(number) == 3 for number in joined)
    assert len(set(arrived)) == len(arrived) - 2 * len(joined)
    lost = {name for name, tensor in theirs.items() if float(tensor.reshape(-1)[0]) not in arrived}
    assert lost == {
        name
        for name in theirs
        if name.startswith((f"{VIT}.head.", f"{VIT}.fc_norm."))
        or name.endswith("relative_position_index")
        or "log_binomial_transform" in name
    }


def changed(**tensors: Tensor) -> Callable[[State], State]:
    return lambda state: state | tensors


def without(name: str) -> Callable[[State], State]:
    return lambda state: {key: tensor for key, tensor in state.items() if key != name}


TABLE = f"{VIT}.blocks.0.attn.relative_position_bias_table"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (changed(**{"core.core.more": torch.zeros(1)}), ["unknown", "core.core.more"]),
        (changed(**{f"{VIT}.blocks.0.attn.more": torch.zeros(1)}), ["unknown", "blocks.0.attn.more"]),
        (without(f"{VIT}.cls_token"), ["missing", f"{VIT}.cls_token"]),
        (without(f"{VIT}.blocks.7.attn.q_bias"), ["missing", "blocks.7.attn.q_bias"]),
        (without(f"{VIT}.blocks.7.attn.qkv.weight"), ["missing", "blocks.7.attn.qkv.weight"]),
        (
            without("core.core.scratch.refinenet4.resConfUnit1.conv1.bias"),
            ["missing", "refinenet4.resConfUnit1.conv1.bias"],
        ),
        (without("attractors.2._net.0.bias"), ["missing", "attractors.2._net.0.bias"]),
        (changed(**{"conv2.bias": torch.zeros(9)}), ["conv2.bias", "(9,)", "(36,)"]),
        (
            changed(**{f"{VIT}.blocks.3.attn.qkv.weight": torch.zeros(144, 40)}),
            ["qkv", "(144, 40)", "(144, 48)"],
        ),
        (changed(**{"attractors.3._net.2.weight": torch.zeros(3, 128, 1, 1)}), ["[16, 8, 4, 3]"]),
        (changed(**{TABLE: torch.zeros(2210, 3)}), [TABLE, "2210", "no square window"]),
        (
            changed(
                **{
                    f"{VIT}.blocks.8.{part}": torch.zeros(48)
                    for part in ("norm1.weight", "norm1.bias", "gamma_1", "gamma_2")
                }
            ),
            ["BEiT of 9 blocks"],
        ),
        (
            changed(**{"seed_bin_regressors.nyu._net.0.bias": torch.zeros(1)}),
            ["two heads", "--coarse zoedepth"],
        ),
    ],
)
def test_tensors_that_do_not_fit(state: State, change: Callable[[State], State], words: list[str]) -> None:
    with pytest.raises(CheckpointError) as caught:
        convert_zoedepth(change(state))
    assert all(word in str(caught.value) for word in words), caught.value
    assert len(str(caught.value).splitlines()) == 1


def test_the_range_of_the_bins(state: State, normed: State) -> None:
    with pytest.raises(UsageError, match="--max-depth: 80"):
        convert_zoedepth(normed)
    with pytest.raises(UsageError, match="without a range"):
        convert_zoedepth(state, max_depth=80)


def test_without_transformers_or_with_an_early_one(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "transformers", None)
        with pytest.raises(MissingExtraError, match="transformers"):
            convert_zoedepth(state)
    transformers = zoedepth.import_transformers()
    for version in ("4.57.6", "5.8.1"):
        monkeypatch.setattr(transformers, "__version__", version)
        with pytest.raises(ConfigError, match=rf"5\.9 or later, {version}"):
            convert_zoedepth(state)
    monkeypatch.setattr(transformers, "__version__", "5.10.0.dev0")
    convert_zoedepth(state)


def run(*arguments: object) -> Any:
    """`prv2 models convert` as an application of its own; what it raises is raised here."""
    app = typer.Typer()
    app.command()(convert)
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_published_file(state: State, tmp_path: Path) -> None:
    """As ZoeDepth's authors save: the tensors under `model`. It becomes a coarse network that can be loaded."""
    source, target = tmp_path / "ZoeD_M12_N.pt", tmp_path / "zoe.safetensors"
    torch.save({"model": state, "epoch": 4}, source)
    result = run(source, target)
    assert "a coarse of 0.8 million parameters, coarse network zoedepth" in result.stderr
    assert " m\n" not in result.stderr  # there is no range to be told
    network = load_coarse(resolve(target), torch.device("cpu"))
    assert isinstance(network, ZoeDepthNetwork)
    rgb = photograph(300, 420)
    with torch.inference_mode():
        expected = built(state)(resize_photograph(rgb, (384, 512))).depth
    found = network.predict(rgb).values
    assert found.shape[-2:] == (300, 420)
    assert abs(found.mean() / expected.mean() - 1) < 1e-3


def test_a_file_with_nan(state: State, tmp_path: Path) -> None:
    source, target = tmp_path / "zoe.pt", tmp_path / "zoe.safetensors"
    torch.save({"model": changed(**{"conv2.bias": torch.full((36,), torch.nan)})(state)}, source)
    with pytest.raises(CheckpointError, match=r"zoe\.pt: tensor conv2\.bias holds NaN"):
        run(source, target)
    assert not target.exists()


def photograph(height: int, width: int) -> np.ndarray:
    """Smooth colours and an edge."""
    y, x = np.mgrid[0:height, 0:width] / height
    base = np.stack([np.sin(3 * x), np.cos(4 * y), x * y], axis=-1) * 60 + 128
    base[:, width // 2 :] -= 50
    return np.clip(base, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Converted:
    """A PatchRefiner V2 with ZoeDepth and what the command made of it."""

    golden: Golden
    state: State
    target: Path
    facts: dict[str, Any]


@pytest.fixture(scope="module", params=["alone", "student"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """As their trainer saves it; then as their semi-supervised one does, beside a teacher."""
    golden = Golden.load("whole_zoedepth")
    state = with_buffers(golden)
    saved = state
    if request.param == "student":
        teacher = {f"teacher_model.{name}": torch.zeros_like(tensor) for name, tensor in state.items()}
        saved = {f"student_model.{name}": tensor for name, tensor in state.items()} | teacher
    folder = tmp_path_factory.mktemp("zoe")
    source, target = folder / "checkpoint_48.pth", folder / "bundle.safetensors"
    torch.save({"epoch": 47, "model_state_dict": saved}, source)
    height, width = golden.meta["patch_process_shape"]
    result = run(source, target, "--process-size", f"{height}x{width}", "--json")
    return Converted(golden, state, target, json.loads(result.stdout))


def test_the_reference_depth_comes_out(whole: Converted) -> None:
    """From their file to m1 and m2 through nothing but ours, the resizing of the photograph and its tiles included."""
    golden, checkpoint = whole.golden, read_checkpoint(whole.target)
    config, made = checkpoint.config, cast(Any, checkpoint.build())
    assert isinstance(config, BundleConfig)
    assert isinstance(config.coarse, ZoeDepthConfig)
    process = tuple(golden.meta["patch_process_shape"])
    assert config.process_size == config.coarse.input_size == process
    assert whole.facts["kind"] == "bundle"
    assert whole.facts["coarse"] == "zoedepth"
    assert whole.facts["max_depth"] is None
    assert whole.facts["process_size"] == list(process)

    rgb = image(golden.seed, (1, 3, *golden.meta["image_raw_shape"]))
    with torch.inference_mode():
        coarse = made.coarse(paper.to_process(rgb, process))
        assert golden.error("coarse_depth", coarse.depth) < DEPTH_TOLERANCE
        for level, feature in enumerate(coarse.features):
            assert golden.error(f"coarse_level{level}", feature) < TOLERANCE
        refiner = made.refiner.to(memory_format=torch.channels_last)
        for mode in ("m1", "m2"):
            setup = paper.PaperSetup(process, split=(2, 2))
            depth = paper.refine_paper(refiner, rgb, coarse, setup, mode)
            assert golden.error(f"depth_{mode}", depth) < DEPTH_TOLERANCE


def test_a_photograph_through_the_bundle(whole: Converted) -> None:
    """The coarse network gets the photograph as the authors' does, in our tiling and in theirs."""
    refiner = Refiner.from_pretrained(whole.target, device="cpu", precision="fp32")
    rgb = photograph(140, 200)
    process = tuple(whole.golden.meta["patch_process_shape"])
    made: Any = read_checkpoint(whole.target).build()
    with torch.inference_mode():
        expected = made.coarse(resize_photograph(rgb, process)).depth[0, 0].numpy()
    for mode in (None, "m1"):
        result = refiner.refine(rgb, mode=mode)
        assert result.unit == "metre"
        assert result.depth.shape == (140, 200)
        assert np.isfinite(result.depth).all()
        assert np.abs(result.coarse - expected).mean() < 1e-5 * expected.mean()


def test_networks_that_are_resized_for_in_another_way(whole: Converted) -> None:
    """Ours was trained on averages; a photograph less than twice as large tells the two apart."""
    config = read_checkpoint(whole.target).config
    assert isinstance(config, BundleConfig)
    rgb = photograph(140, 200)
    theirs = resize_photograph(rgb, config.process_size)
    assert torch.equal(bundle_input(rgb, config), theirs)
    assert torch.equal(bundle_input(rgb, config.model_copy(update={"coarse": Dav2Config()})), theirs)
    ours = bundle_input(rgb, config.model_copy(update={"coarse": LiteConfig()}))
    assert torch.equal(ours, shrink(rgb, config.process_size))
    assert not torch.equal(ours, theirs)


@pytest.mark.parametrize("whole", ["alone"], indirect=True)
def test_choices_that_do_not_fit(whole: Converted, tmp_path: Path) -> None:
    source, target = tmp_path / "theirs.pth", tmp_path / "out.safetensors"
    torch.save(whole.state, source)
    with pytest.raises(UsageError, match="448x450: both sides must be multiples of 32"):
        run(source, target, "--process-size", "448x450")
    with pytest.raises(UsageError, match=r"theirs\.pth.*without a range"):
        run(source, target, "--max-depth", 80)
    torch.save(without("coarse_branch.conv2.bias")(whole.state), source)
    with pytest.raises(
        CheckpointError, match=r"its coarse branch: ZoeDepth: 1 missing .*conv2\.bias.*--refiner-only"
    ):
        run(source, target)
    assert not target.exists()
    run(source, target, "--refiner-only")
    with pytest.raises(CheckpointError, match="convert the two together with: prv2 models convert"):
        Refiner.from_pretrained(target, coarse=None)
