"""Depth Anything 3 from photograph to depth: the authors' pre-processing, metres by the focal length, the sky.

The pre-processing rounds twice to 8 bits. OpenCV computes in between in fixed point, so that a value can be one step
of 1/255 off; `STEP` is that step after the normalisation.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_rules import Golden
from safetensors.torch import save_file

from prv2cli.checkpoints.authors.convert_file import convert_file
from prv2cli.checkpoints.model_file import read_config
from prv2cli.coarse.da3 import Da3Network, network_input, processed_focal, processed_sizes
from prv2cli.coarse.load import load_coarse
from prv2cli.errors import CheckpointError, UsageError
from prv2cli.hub.registry import Entry
from prv2cli.hub.resolve import ModelFile
from prv2cli.model.coarse.da3 import Da3Coarse
from prv2cli.model.coarse.output import CoarseOutput
from prv2cli.model.config import Da3Config

VITS, PRE = Golden.load("da3_vits"), Golden.load("da3_pre")
CPU = torch.device("cpu")
STEP = 1 / 255 / 0.224 + 1e-4
PHOTOGRAPHS = [
    (200, 300, 140),
    (213, 160, 140),
    (300, 410, 140),
    (140, 133, 140),
    (60, 100, 140),
    (333, 470, 252),
]
WHOLE = [(213, 160, 140), (300, 410, 196), (120, 90, 168)]


def photograph(height: int, width: int, seed: int = VITS.seed) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The metric network as its authors publish it, at its smallest."""
    path = tmp_path_factory.mktemp("da3")
    save_file({f"model.{name}": tensor for name, tensor in VITS.state().items()}, path / "model.safetensors")
    settings = {"model_name": "da3metric-large", "config": VITS.meta["config"]}
    (path / "config.json").write_text(json.dumps(settings, indent=2))
    return path


@pytest.fixture(scope="module")
def module(folder: Path) -> Da3Coarse:
    network = load_coarse(ModelFile(folder, "da3"), CPU)
    assert isinstance(network, Da3Network)
    assert network.config == Da3Config(encoder="vits", metric=True)
    assert isinstance(network.module, Da3Coarse)
    return network.module


@pytest.fixture
def network(module: Da3Coarse) -> Callable[..., Da3Network]:
    def at(size: int, *, metric: bool = True) -> Da3Network:
        config = Da3Config(encoder="vits", metric=metric, input_size=size)
        return Da3Network(module, config, CPU, "da3", "none")

    return at


def test_sizes() -> None:
    header, *rows = PRE.meta["values"]["size_table"]
    assert header[:4] == ["height", "width", "process_res", "method"]
    for height, width, size, method, *expected in rows:
        if method == "upper_bound_resize":
            assert [*sum(processed_sizes(height, width, size), ())] == expected


@pytest.mark.parametrize(("height", "width"), [(3, 2000), (2000, 3), (1, 1), (5, 504)])
def test_sizes_that_the_authors_network_refuses(height: int, width: int) -> None:
    rows, columns = processed_sizes(height, width, 504)[1]
    assert min(rows, columns) >= 14
    assert max(rows, columns) == 504


@pytest.mark.parametrize(("height", "width", "size"), PHOTOGRAPHS)
def test_input_is_the_authors(height: int, width: int, size: int, module: Da3Coarse) -> None:
    name = f"upper_bound_resize_{height}x{width}_r{size}"
    normalised = (network_input(photograph(height, width), size) - module.mean) / module.std
    found, reference = PRE.stored(name, normalised), PRE.arrays[name]
    assert np.abs(found - reference).max() < STEP
    assert (np.abs(found - reference) > 1e-4).mean() < 1e-3


def test_input_of_deep_photographs() -> None:
    shallow = photograph(90, 120)
    deep = network_input(shallow.astype(np.uint16) * 257, 84)
    assert (deep - network_input(shallow, 84)).abs().max() < 1.5 / 255  # two roundings


@torch.inference_mode()
@pytest.mark.parametrize(("height", "width", "size"), WHOLE)
def test_photograph_to_depth(height: int, width: int, size: int, network: Callable[..., Da3Network]) -> None:
    """The authors' whole way, at the size of their output, which `covering` keeps for large photographs."""
    name = f"e2e_{height}x{width}_r{size}"
    module = network(size).module
    assert isinstance(module, Da3Coarse)
    rgb = network_input(photograph(height, width), size)
    normalised = (rgb - module.mean) / module.std
    assert np.abs(VITS.stored(f"{name}_input", normalised) - VITS.arrays[f"{name}_input"]).max() < STEP
    out = module(rgb)
    reference = VITS.arrays[f"{name}_depth"]
    found = VITS.stored(f"{name}_depth", out.depth[0])
    off = np.abs(found - reference) > 2e-3 * reference.max()
    assert off.mean() < 0.02  # single steps of 1/255 in the input move pixels over the threshold of the sky


@pytest.mark.parametrize(("height", "width", "size"), WHOLE)
def test_focal_length_of_the_processed_picture(height: int, width: int, size: int) -> None:
    before = np.array(VITS.meta["values"][f"e2e_{height}x{width}_r{size}"]["K_in"])
    after = VITS.arrays[f"e2e_{height}x{width}_r{size}_K"][0]
    across, down = after[0, 0] / before[0, 0], after[1, 1] / before[1, 1]
    processed = processed_sizes(height, width, size)[1]
    assert processed_focal(500, (height, width), processed) == pytest.approx(500 * (across + down) / 2)


def test_metres_need_a_focal_length(
    network: Callable[..., Da3Network], caplog: pytest.LogCaptureFixture
) -> None:
    rgb = photograph(120, 160)
    with caplog.at_level(logging.WARNING, "prv2cli"):
        with_focal, doubled = (network(84).predict(rgb, focal_px=focal) for focal in (200.0, 400.0))
        assert caplog.messages == []
        known = network(84)
        without = known.predict(rgb)
        known.predict(rgb)  # told once
    assert (with_focal.unit, without.unit) == ("metre", "relative")
    assert caplog.messages == [
        "da3 gives metres only with a focal length, and the photograph tells none: relative depth; add --focal-px"
    ]
    torch.testing.assert_close(doubled.values, 2 * with_focal.values)
    torch.testing.assert_close(
        with_focal.values, without.values * processed_focal(200, (120, 160), (70, 84)) / 300
    )


def test_the_other_network_never_gives_metres(network: Callable[..., Da3Network]) -> None:
    coarse = network(84, metric=False).predict(photograph(120, 160), focal_px=200)
    assert (coarse.kind, coarse.unit) == ("depth", "relative")


def test_the_sky_has_no_depth(network: Callable[..., Da3Network]) -> None:
    coarse = network(140).predict(photograph(213, 160))
    assert coarse.seen is not None
    assert 0 < int(coarse.seen.sum()) < coarse.seen.numel()
    assert torch.equal(coarse.seen, coarse.values > 0)
    assert coarse.estimated_focal_px is None


@pytest.mark.parametrize(("height", "width"), [(3, 900), (900, 3), (1, 1), (31, 47)])
def test_any_shape(height: int, width: int, network: Callable[..., Da3Network]) -> None:
    coarse = network(84).predict(photograph(height, width))
    rows, columns = coarse.values.shape[-2:]
    assert rows <= height
    assert columns <= width
    assert torch.isfinite(coarse.values).all()


def registered(metric: bool) -> Entry:
    return Entry(
        name="da3",
        kind="coarse",
        loader="da3",
        repo="a/b",
        file="model.safetensors",
        licence="Apache-2.0",
        commercial=True,
        metric=metric,
        domain="tests",
    )


@pytest.mark.parametrize("metric", [True, False])
def test_a_registered_file_is_metric_by_its_entry(metric: bool, folder: Path) -> None:
    source = ModelFile(folder / "model.safetensors", "da3", registered(metric), "c" * 40)
    network = load_coarse(source, CPU)
    assert isinstance(network, Da3Network)
    assert network.config == Da3Config(encoder="vits", metric=metric)
    assert network.identity == "c" * 40


def test_conversion_reads_the_settings_beside_the_weights(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "ours.safetensors"
    conversion = convert_file(folder / "model.safetensors", target)
    assert conversion.config == read_config(target) == Da3Config(encoder="vits", metric=True)
    with pytest.raises(UsageError, match="--max-depth has no meaning"):
        convert_file(folder / "model.safetensors", target, max_depth=20)


@pytest.mark.parametrize("content", [None, "[]", '{"model_type": "dpt"}', "{"])
def test_conversion_without_the_settings(content: str | None, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        convert_file(tmp_path / "model.safetensors", tmp_path / "ours.safetensors")


def test_an_any_view_network_is_refused(folder: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = json.loads((folder / "config.json").read_text())
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({**settings, "model_name": "da3-small"}))
    with pytest.raises(CheckpointError, match="da3-small"):
        load_coarse(ModelFile(tmp_path, "da3"), CPU)


def test_the_sky_ends_where_its_depth_does() -> None:
    """Both are enlarged by half-pixel centres: a horizon at row 30 of 280 is one at 30.4 of 284."""
    valid = torch.ones(1, 1, 280, 504, dtype=torch.bool)
    valid[:, :, :30] = False
    module: Any = lambda _: CoarseOutput(torch.ones(1, 1, 280, 504), [], valid)  # noqa: E731
    coarse = Da3Network(module, Da3Config(), CPU, "da3", "none").predict(photograph(1080, 1920))
    assert coarse.seen is not None
    assert coarse.seen.shape[-2] == 284
    assert int((~coarse.seen[0, 0, :, 0]).sum()) == 30
