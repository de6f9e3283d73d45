"""What a GPU makes of a 4K photograph, and which part bounds it. Any CUDA machine will do; a CPU runs it slowly.

    python benchmarks/gpu.py [--device cuda] [--size 3840x2160] [--photographs 16] [--repeats 3] [--json FILE]

A picture of that size is made, with a smooth coarse map; the embedded weights are used. Four tables:

tiles       the network alone on tiles that already lie on the device: milliseconds a tile by precision and by tiles at
            a time; as it is, and compiled (torch.compile, and with CUDA graphs), with the largest difference to fp32
transfers   a batch of tiles to the device from pageable and from pinned memory, milliseconds
photographs PHOTOGRAPHS at a time through Refiner.run, each part's seconds a photograph, and photographs a second
memory      the same with ever less of the device's memory: how many tiles at a time were begun with and went through

Everything is timed after one run to warm up, best of REPEATS.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prv2cli.errors import DeviceError
from prv2cli.machine.devices import choose_device
from prv2cli.model.layers import crop_to_boxes
from prv2cli.model.refiner.patchrefiner import SURFACE_WINDOW
from prv2cli.refine.refiner import Refiner
from prv2cli.refine.request import GivenDepth, RefineRequest, Subject
from prv2cli.refine.tiles.grid import to_pixels
from prv2cli.resampling.guide import to_guide
from prv2cli.restoration.character import character

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
COMPILED = {"as it is": None, "compiled": "default", "CUDA graphs": "reduce-overhead"}
SHARES = (1.0, 0.05, 0.02, 0.01, 0.005)  # of the device's memory
Row = dict[str, Any]


def picture(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) uint8 of waves, steps and noise, and a coarse map of its steps in metres."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    steps = ((x // 640 + y // 512) % 2).astype(np.float32)
    grey = 110 + 60 * np.sin(x / 300) * np.cos(y / 240) + 40 * steps
    grey += np.random.default_rng(0).integers(-8, 9, grey.shape)
    rgb = np.clip(grey[..., None] * np.array([1, 0.9, 0.8], np.float32), 0, 255).astype(np.uint8)
    return rgb, (2 + steps + y / height)[::8, ::8]


def best(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Seconds of the fastest of some runs, after one to warm up."""
    times = []
    for _ in range(repeats + 1):
        _wait(device)
        start = time.perf_counter()
        run()
        _wait(device)
        times.append(time.perf_counter() - start)
    return min(times[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def tile_inputs(refiner: Refiner, side: int, count: int) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Some tiles as the tile loop gives them to the network: pixels, coarse depth, guidance."""
    rgb, coarse = picture(2 * side, 2 * side)
    network, device = refiner.loop.network, refiner.device
    whole = to_pixels([rgb[::2, ::2]], device)
    depth = torch.from_numpy(coarse).log()[None, None].to(device)
    depth = (depth - depth.mean()) / depth.std()
    known = [to_guide(depth, whole.shape[-2:])]
    if refiner.config.coarse.character:
        known.append(character(depth.cpu(), rgb.shape, whole.shape[-2:], SURFACE_WINDOW).to(device))
    features = network.encode_image(whole, *known)
    boxes = torch.tensor([[0.0, 0.0, 0.5, 0.5]] * count, device=device)
    index = torch.zeros(count, dtype=torch.long, device=device)
    pixels = to_pixels([rgb[:side, :side]] * count, device)
    cut = crop_to_boxes(depth, boxes, index, (side, side))
    return pixels, cut, network.crop(features, boxes, index, (side, side))


@torch.inference_mode()
def tiles(refiner: Refiner, side: int, counts: list[int], repeats: int) -> Iterator[Row]:
    """Milliseconds a tile of the network alone."""
    network: Any = refiner.loop.network
    device = refiner.device
    for count in counts:
        pixels, depth, features = tile_inputs(refiner, side, count)
        exact = network.refine_cropped(pixels, depth, features)
        for name, mode in COMPILED.items():
            if mode and device.type != "cuda":
                continue
            call = torch.compile(network.refine_cropped, mode=mode) if mode else network.refine_cropped
            for precision, dtype in PRECISIONS.items():
                with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                    off = float((call(pixels, depth, features).float() - exact).abs().max())
                    seconds = best(partial(call, pixels, depth, features), device, repeats)
                yield {
                    "tiles at a time": count,
                    "how": name,
                    "precision": precision,
                    "ms a tile": round(1e3 * seconds / count, 3),
                    "largest difference": round(off, 5),
                }


def transfers(device: torch.device, side: int, counts: list[int], repeats: int) -> Iterator[Row]:
    """Milliseconds that a batch of tiles takes to the device."""
    for count in counts:
        batch = torch.zeros(count, side, side, 3, dtype=torch.uint8)
        row: Row = {
            "tiles": count,
            "pageable ms": round(1e3 * best(partial(batch.to, device), device, repeats), 3),
        }
        if device.type == "cuda":
            pinned = batch.pin_memory()
            seconds = best(partial(pinned.to, device, non_blocking=True), device, repeats)
            row["pinned ms"] = round(1e3 * seconds, 3)
        yield row


def photographs(
    refiner: Refiner, subjects: list[Subject], precision: str, batch_size: int = 0
) -> tuple[Row, int]:
    """Seconds a photograph by part, and how many tiles went at a time."""
    request = RefineRequest(batch_size=batch_size)
    start = time.perf_counter()
    found = refiner.run(subjects, request)
    _wait(refiner.device)
    total = (time.perf_counter() - start) / len(subjects)
    parts = {part: sum(one.seconds.get(part, 0) for one in found) / len(found) for part in found[0].seconds}
    row: Row = {"precision": precision, "photographs": len(subjects), "tiles at a time": found[0].batch_size}
    row |= {part: round(seconds, 4) for part, seconds in parts.items()}
    return row | {"seconds": round(total, 4), "a second": round(1 / total, 2)}, found[0].batch_size


def short_of_memory(device: torch.device, subjects: list[Subject]) -> Iterator[Row]:
    """With ever less memory the tiles at a time are halved until they fit, or one line says that not even one does."""
    if device.type != "cuda":
        return
    for share in SHARES:
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(share, device)
        refiner = Refiner.from_pretrained(coarse=None, device=str(device), precision="fp32")
        row: Row = {"share of the memory": share, "begun with": 16}
        try:
            row["went through"] = photographs(refiner, subjects[:1], "fp32", 16)[1]
        except DeviceError as error:
            row["went through"] = str(error)
        yield row
    torch.cuda.set_per_process_memory_fraction(1.0, device)


def tell(name: str, rows: Iterator[Row]) -> list[Row]:
    """Print a table as its rows come."""
    found: list[Row] = []
    print(f"\n### {name}\n", flush=True)
    for row in rows:
        if not found:
            print("| " + " | ".join(row) + " |\n" + "|---" * len(row) + "|")
        found.append(row)
        print("| " + " | ".join(str(value) for value in row.values()) + " |", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", default="3840x2160", metavar="WxH")
    parser.add_argument("--photographs", type=int, default=16)
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--tiles", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    device = choose_device(args.device)
    width, height = map(int, args.size.split("x"))
    rgb, coarse = picture(width, height)
    subjects = [Subject(rgb, None, GivenDepth(coarse))] * args.photographs
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, {width} x {height}")

    def all_precisions() -> Iterator[Row]:
        for precision in PRECISIONS if device.type == "cuda" else ("fp32",):
            refiner = Refiner.from_pretrained(coarse=None, device=args.device, precision=precision)
            refiner.run(subjects[:1], RefineRequest())  # to warm up
            yield photographs(refiner, subjects, precision)[0]

    plain = Refiner.from_pretrained(coarse=None, device=args.device, precision="fp32")
    report = {
        "device": name,
        "torch": torch.__version__,
        "tiles": tell("tiles", tiles(plain, args.tile, args.tiles, args.repeats)),
        "transfers": tell("transfers", transfers(device, args.tile, args.tiles, args.repeats)),
        "photographs": tell("photographs", all_precisions()),
        "memory": tell("memory", short_of_memory(device, subjects)),
    }
    if args.json:
        args.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
