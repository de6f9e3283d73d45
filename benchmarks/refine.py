"""Seconds and peak memory of `prv2 refine`, whole and by part, for photographs of 1, 8 and 42 megapixels.

    python benchmarks/refine.py [--photo FILE] [--megapixels 1 8 42] [--device cpu] [--json FILE]

Two fresh processes for each size: one runs the program as a user does (its wall time has the start-up in it,
its peak memory is the system's figure), one runs the same steps with a clock and a memory sampler between
them. FILE is resized to each size; without it a picture is made. The model is the embedded one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path

ASPECT = 16 / 9
SAMPLE_SECONDS = 0.005
MB = 1e6


def make_photograph(megapixels: float, source: Path | None, path: Path) -> tuple[int, int]:
    """Write a JPEG of about so many megapixels; returns width and height."""
    import numpy as np
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    if source is not None:
        picture = Image.open(source).convert("RGB")
        scale = (megapixels * 1e6 / (picture.width * picture.height)) ** 0.5
        picture = picture.resize((round(picture.width * scale), round(picture.height * scale)))
    else:
        height = round((megapixels * 1e6 / ASPECT) ** 0.5)
        y, x = np.mgrid[0:height, 0 : round(height * ASPECT)].astype(np.float32)
        grey = 120 + 60 * np.sin(x / 90) * np.cos(y / 70) + 30 * ((x // 160 + y // 120) % 2)
        noise = np.random.default_rng(0).integers(-8, 9, grey.shape)
        picture = Image.fromarray(np.clip(grey + noise, 0, 255).astype(np.uint8)).convert("RGB")
    picture.save(path, quality=92)
    return picture.size


def run_program(photo: Path, out: Path, device: str) -> tuple[float, float]:
    """`prv2 refine` in a fresh process: wall seconds and peak memory in MB."""
    command = [
        sys.executable,
        "-m",
        "prv2cli",
        "refine",
        str(photo),
        "-o",
        str(out),
        "-q",
        "--coarse",
        "lite",
        "--device",
        device,
    ]
    start = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{' '.join(command)}: failed")
    return time.perf_counter() - start, usage.ru_maxrss * 1024 / MB


class MemorySampler(threading.Thread):
    """Records this process's resident memory over time."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.samples: list[tuple[float, float]] = []

    def run(self) -> None:
        page = os.sysconf("SC_PAGE_SIZE")
        while True:
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * page
            self.samples.append((time.perf_counter(), resident / MB))
            time.sleep(SAMPLE_SECONDS)

    def peak(self, start: float, stop: float) -> float:
        inside = [memory for moment, memory in self.samples if start <= moment <= stop]
        return max(inside) if inside else self.samples[-1][1]


def run_parts(photo: Path, out: Path, device: str) -> dict[str, tuple[float, float]]:
    """The steps of `prv2 refine` in this process: part -> (seconds, peak MB)."""
    sampler = MemorySampler()
    sampler.start()
    marks = [("import", time.perf_counter())]
    from prv2cli.depth_files.ours.metadata import DepthMetadata
    from prv2cli.depth_files.ours.write import write_depth
    from prv2cli.photo.read import read_photo
    from prv2cli.refine.refiner import Refiner

    marks.append(("decode", time.perf_counter()))
    image = read_photo(photo)
    marks.append(("load", time.perf_counter()))
    refiner = Refiner.from_pretrained(coarse="lite", device=device)
    moment = time.perf_counter()
    result = refiner.refine(image.rgb)
    for part, seconds in result.seconds.items():
        marks.append((part, moment))
        moment += seconds
    marks.append(("encode", time.perf_counter()))
    write_depth(out, result.depth, DepthMetadata())
    marks.append(("end", time.perf_counter()))
    return {part: (stop - start, sampler.peak(start, stop)) for (part, start), (_, stop) in pairwise(marks)}


def run_parts_afresh(photo: Path, out: Path, device: str) -> dict[str, tuple[float, float]]:
    command = [sys.executable, __file__, "--parts-of", str(photo), str(out), "--device", device]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(megapixels: float, source: Path | None, device: str, folder: Path) -> dict[str, object]:
    photo, out = folder / f"{megapixels:g}.jpg", folder / f"{megapixels:g}.tif"
    width, height = make_photograph(megapixels, source, photo)
    wall, peak = run_program(photo, out, device)
    return {
        "width": width,
        "height": height,
        "wall_seconds": wall,
        "peak_mb": peak,
        "image_and_result_mb": width * height * (3 + 4) / MB,
        "parts": run_parts_afresh(photo, out, device),
    }


def print_report(result: dict) -> None:
    shared = result["image_and_result_mb"]
    print(
        f"\n{result['width']} x {result['height']}: {result['wall_seconds']:.1f} s in all, start-up included"
    )
    print(f"peak {result['peak_mb']:.0f} MB, of which image and result {shared:.0f} MB")
    print("| part | seconds | peak MB |\n|---|---|---|")
    for part, (seconds, memory) in result["parts"].items():
        print(f"| {part} | {seconds:.2f} | {memory:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photo", type=Path)
    parser.add_argument("--megapixels", type=float, nargs="+", default=[1, 8.2944, 42])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--parts-of", type=Path, nargs=2, metavar=("PHOTO", "OUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.parts_of:
        photo, out = arguments.parts_of
        print(json.dumps(run_parts(photo, out, arguments.device)))
        return
    with tempfile.TemporaryDirectory() as folder:
        results = []
        for megapixels in arguments.megapixels:
            results.append(measure(megapixels, arguments.photo, arguments.device, Path(folder)))
            print_report(results[-1])
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
