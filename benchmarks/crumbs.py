"""How much of a photograph's texture comes through where the coarse map says nothing of an edge ("crumbs").

    python benchmarks/crumbs.py PHOTO ... [--coarse lite] [--model refiner-s] [--depth FILE ...] [--reference NETWORK]

Counted are the pixels on the photograph's edges (the tenth with the largest gradient) around which the coarse map has
no step within its own resolution: its log-depth varies by less than 5 % within 1.5 of its pixels. There the refined
depth ought to be as smooth as the coarse one. The figures are root mean squares of the gradient of log-depth over these
pixels, in thousandths per pixel of the photograph. `--depth`: depth files in the photographs' order, made by anything,
to be measured beside; `--reference`: the coarse network whose map theirs is held against, where it is another.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from prv2cli.coarse.load import load_coarse
from prv2cli.depth_files.read import read_depth
from prv2cli.extras import import_opencv
from prv2cli.hub.resolve import resolve
from prv2cli.photo.read import read_photo
from prv2cli.refine.refiner import Refiner

EDGES = 0.1  # share of the pixels
FLAT = 0.05  # of log-depth
REACH = 1.5  # coarse pixels


def gradient(values: np.ndarray) -> np.ndarray:
    """Length of the gradient of an (H, W) map, per pixel."""
    rows, columns = np.gradient(values)
    return np.hypot(rows, columns)


def quiet_edges(rgb: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """(H, W) bool: edges of the photograph (H, W, 3) where the log-depth (h, w) has no step."""
    cv2 = import_opencv()
    size = (rgb.shape[1], rgb.shape[0])
    steep = gradient(cv2.GaussianBlur(rgb.mean(axis=2).astype(np.float32), (0, 0), 1))
    window = np.ones((2 * round(REACH) + 1,) * 2, np.uint8)
    span = cv2.dilate(coarse, window) - cv2.erode(coarse, window)
    flat = cv2.resize(span, size, interpolation=cv2.INTER_NEAREST) < FLAT
    return (steep > np.quantile(steep, 1 - EDGES)) & flat


def roughness(log_depth: np.ndarray, where: np.ndarray) -> float:
    return 1e3 * float(np.sqrt(np.mean(gradient(log_depth)[where] ** 2)))


def coarse_log_depth(network: str, rgb: np.ndarray) -> np.ndarray:
    """(h, w) float32."""
    found = load_coarse(resolve(network), torch.device("cpu")).predict(rgb)
    return found.values[0, 0].log().numpy()


def line(name: str, share: float, values: Sequence[float]) -> str:
    return f"| {name} | {share:.1%} | " + " | ".join(f"{value:.2f}" for value in values) + " |"


def main() -> None:
    cv2 = import_opencv()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--coarse", default="lite")
    parser.add_argument("--model", default="refiner-s")
    parser.add_argument("--depth", type=Path, nargs="+", default=[])
    parser.add_argument("--reference")
    arguments = parser.parse_args()
    refiner = Refiner.from_pretrained(arguments.model, coarse=arguments.coarse, device="cpu")
    print(
        "| photograph | such edges | coarse | refined | " + "its coarse | the file |" * bool(arguments.depth)
    )
    print("|---|---|---|---|" + "---|---|" * bool(arguments.depth))
    for i, path in enumerate(arguments.photos):
        rgb = read_photo(path).rgb
        size = (rgb.shape[1], rgb.shape[0])
        coarse = coarse_log_depth(arguments.coarse, rgb)
        where = quiet_edges(rgb, coarse)
        smooth = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
        figures = [roughness(smooth, where), roughness(np.log(refiner.refine(rgb).depth), where)]
        if i < len(arguments.depth):
            other = coarse_log_depth(arguments.reference or arguments.coarse, rgb)
            there = quiet_edges(rgb, other)
            depth = np.log(read_depth(arguments.depth[i], relative=True).values)
            figures += [
                roughness(cv2.resize(other, size, interpolation=cv2.INTER_CUBIC), there),
                roughness(depth, there & np.isfinite(gradient(depth))),
            ]
        print(line(path.stem, where.mean(), figures), flush=True)


if __name__ == "__main__":
    main()
