"""A tile through the refiner in PyTorch and in other engines, alternately, so that other work hits both alike.

    pip install onnx onnxscript onnxruntime openvino
    OMP_NUM_THREADS=1 python benchmarks/engines.py PHOTO [--engines onnxruntime openvino ..] [--tile 768] [--runs 8]

Printed are processor milliseconds (medians) on one thread, the median of the pairs' ratios, PyTorch / engine (above 1
the engine is faster), and how far the refined tiles are apart in the network's normalised depth.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from prv2cli.photo.read import read_photo
from prv2cli.refine.refiner import Refiner
from prv2cli.refine.request import Models

ENGINES = ("onnxruntime", "openvino", "openvino-int8", "compile")  # the last: torch.compile
PACKAGES = ("onnx", "onnxscript", "onnxruntime", "openvino")
Tile = tuple[Tensor, ...]  # rgb, depth, steeper, then the guidance of each level


@contextmanager
def torchs_way() -> Iterator[None]:
    """Without what serves eager torch alone: numbers seen as another type, a view for GELU."""
    torchs = nn.functional.gelu
    layers, heads = (mock.patch(f"prv2cli.model.{room}.gelu", torchs) for room in ("layers", "refiner.heads"))
    with mock.patch.dict("prv2cli.model.shuffles._WORDS", clear=True), layers, heads:
        yield


class OfTile(nn.ModuleList):
    """The refiner with its arguments in a row, as exporters want them."""

    def forward(self, rgb: Tensor, depth: Tensor, steeper: Any, *maps: Tensor) -> Any:
        return self[0].refine_cropped(rgb, depth, maps, steeper)  # type: ignore[operator]


def middle_tile(refiner: Refiner, photo: np.ndarray, side: int) -> Tile:
    """What the network is given for the middle tile of a photograph, of which it changes nothing here."""
    network = "prv2cli.model.refiner.patchrefiner.PatchRefiner"
    with mock.patch(f"{network}.refine_cropped", side_effect=lambda rgb, depth, *_: depth) as asked:
        tiles = refiner.refine(photo, tile=side).tiles
    rgb, depth, maps, steeper = asked.call_args_list[-(tiles // 2 + 1)].args
    return tuple(part.clone() for part in (rgb, depth, torch.tensor(float(steeper)), *maps))


def made(network: nn.Module, tile: Tile, name: str, folder: Path) -> Callable[[], Any]:
    """The engine. int8: convolutions alone, their ranges found on this very tile, which flatters it."""
    if name == "compile":
        module: Any = torch.compile(network, dynamic=False, options={"freezing": True})
        return lambda: module(*tile).numpy()
    arrays = {f"input{i}": part.contiguous().numpy() for i, part in enumerate(tile)}
    path, names = folder / "tile.onnx", list(arrays)
    torch.onnx.export(network, tile, path, input_names=names, opset_version=20, verbose=False)  # 20 has GELU
    if name == "onnxruntime":
        runtime: Any = importlib.import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        session = runtime.InferenceSession(path, options)
        return lambda: session.run(None, arrays)[0]
    if name == "openvino-int8":
        quantize: Any = importlib.import_module("onnxruntime.quantization").quantize_static
        reader = mock.Mock(get_next=mock.Mock(side_effect=[arrays, None]))
        quantize(path, path, reader, per_channel=True, op_types_to_quantize=["Conv"])
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    model = importlib.import_module("openvino").Core().compile_model(path, "CPU", settings)
    return lambda: model(arrays, share_inputs=True)[0]


def row(network: nn.Module, tile: Tile, name: str, runs: int) -> str:
    """Of the table: each is run once before."""
    with tempfile.TemporaryDirectory() as folder, torchs_way():
        other = made(network, tile, name, Path(folder))
        values = other()
    apart = np.abs(network(*tile).numpy() - values).max()
    seconds = np.empty((runs, 2))
    for i in range(runs):
        start = time.process_time()
        network(*tile)
        middle = time.process_time()
        with torchs_way():
            other()
        seconds[i] = middle - start, time.process_time() - middle
    (old, new), ratio = 1000 * np.median(seconds, axis=0), np.median(seconds[:, 0] / seconds[:, 1])
    return f"| {name} | {old:.0f} | {new:.0f} | {ratio:.2f} | {apart:.1e} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--tile", type=int, default=0, help="its side in pixels; 0: prv2 chooses")
    parser.add_argument("--runs", type=int, default=8)
    asked = parser.parse_args()
    missing = [package for package in PACKAGES if importlib.util.find_spec(package) is None]
    if missing and asked.engines != ["compile"]:
        parser.error(f"packages are missing: pip install {' '.join(missing)}; or --engines compile")
    warnings.simplefilter("ignore")
    torch.set_grad_enabled(False)
    refiner = Refiner.load(Models(coarse="lite", device="cpu"))
    tile = middle_tile(refiner, read_photo(asked.photo).rgb, asked.tile)
    print(f"tile {tuple(tile[0].shape[2:])}\n| engine | PyTorch, ms | engine, ms | ratio | apart |")
    network = OfTile([cast(Any, refiner.loop.network)]).eval()
    for name in asked.engines:
        print(row(network, tile, name, asked.runs), flush=True)


if __name__ == "__main__":
    main()
