"""Images per second of `prv2 batch` against its parts one after the other, and its memory over time. Linux only.

    python benchmarks/batch.py [--count 200] [--size 4000x3000] [--parts 5] [--device cpu] [--json FILE] [-- OPTION ...]
    python benchmarks/batch.py --count 2000 --size 320x240     # the memory curve over many photographs

COUNT photographs are made (a few pictures, each many times) and refined by the program in a fresh process, whose
resident memory is sampled each second. PARTS of them are decoded, refined and encoded one after another before, in
a process of their own. Efficiency: the sum of the parts over the time that the batch takes for a photograph, start-up
left out; above 1, the parts overlap. Options behind -- go to `prv2 batch`.
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
from typing import Any

DIFFERENT = 4  # pictures
PARTS = ("decode", "coarse", "reduced", "tiles", "fuse", "encode")
MB = 1e6


def make_photographs(width: int, height: int, count: int, folder: Path) -> None:
    """JPEGs of waves, steps and noise."""
    import numpy as np
    from PIL import Image

    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    for k in range(min(DIFFERENT, count)):
        grey = 110 + 60 * np.sin(x / (300 + 40 * k)) * np.cos(y / 240) + 40 * ((x // 320 + y // 260) % 2)
        noise = np.random.default_rng(k).integers(-8, 9, grey.shape, dtype=np.int16)
        rgb = (grey + noise)[..., None] * np.array([1, 0.9, 0.8], np.float32)
        Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8)).save(folder / f"{k:05}.jpg", quality=90)
    for k in range(DIFFERENT, count):
        os.link(folder / f"{k % DIFFERENT:05}.jpg", folder / f"{k:05}.jpg")


def run_parts(photos: list[Path], out: Path, device: str) -> dict[str, float]:
    """Mean seconds of each part, one after the other, in this process; a first photograph warms up."""
    from prv2cli import Refiner
    from prv2cli.depth_files.ours.encoding import Encoding, write
    from prv2cli.jobs.report import describe
    from prv2cli.photo.read import read_photo

    refiner = Refiner.from_pretrained(coarse="lite", device=device)
    runs = []
    for path in [photos[0], *photos]:
        start = time.perf_counter()
        photo = read_photo(path)
        decoded = time.perf_counter()
        result = refiner.refine(photo.rgb)
        refined = time.perf_counter()
        write(out, result.depth, describe(refiner, result, photo), Encoding("tiff"))
        runs.append({**result.seconds, "decode": decoded - start, "encode": time.perf_counter() - refined})
    return {part: sum(run[part] for run in runs[1:]) / len(photos) for part in PARTS}


class Memory(threading.Thread):
    """(seconds, resident bytes) of another process, each second while it runs."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._path = Path(f"/proc/{pid}/statm")
        self.samples: list[tuple[float, int]] = []
        self.start()

    def run(self) -> None:
        page = os.sysconf("SC_PAGE_SIZE")
        while True:
            try:
                pages = int(self._path.read_text().split()[1])
            except (OSError, IndexError):
                return
            if pages:  # a process that has ended and is not yet waited for has none
                self.samples.append((time.perf_counter(), pages * page))
            time.sleep(1)


def run_batch(folder: Path, out: Path, device: str, options: list[str]) -> dict[str, Any]:
    """The program over a folder: when each output was told, and the memory samples."""
    command = [sys.executable, "-m", "prv2cli", "batch", str(folder), "-o", str(out), "--json", "-q"]
    command += ["--coarse", "lite", "--device", device, *options]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        memory = Memory(process.pid)
        assert process.stdout is not None
        told = []
        for line in process.stdout:
            if json.loads(line)["state"] != "done":
                raise SystemExit(line)
            told.append(time.perf_counter() - start)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: failed")
    samples = [(moment - start, size) for moment, size in memory.samples]
    return {"wall": time.perf_counter() - start, "told": told, "samples": samples}


def summary(batch: dict[str, Any], parts: dict[str, float]) -> dict[str, Any]:
    """The figures of a run: seconds for a photograph, efficiency, memory by share of the photographs done."""
    told, samples = batch["told"], batch["samples"]
    each = (told[-1] - told[0]) / (len(told) - 1)
    memory = {}
    for share in (0, 0.25, 0.5, 0.75, 1):
        moment = told[round(share * (len(told) - 1))]
        memory[f"{share:.0%}"] = min(samples, key=lambda sample: abs(sample[0] - moment))[1]
    edges = [told[round(k / 4 * (len(told) - 1))] for k in range(5)]
    quarters = [
        max((size for moment, size in samples if low <= moment <= high), default=0)
        for low, high in pairwise(edges)
    ]
    return {
        "count": len(told),
        "wall_seconds": batch["wall"],
        "seconds_each": each,
        "parts": parts,
        "efficiency": sum(parts.values()) / each if parts else None,
        "memory": memory,
        "quarter_peaks": quarters,
        "peak": max(size for _, size in samples),
    }


def report(found: dict[str, Any]) -> None:
    print(
        f"{found['count']} photographs in {found['wall_seconds']:.0f} s, start-up included; "
        f"after the first {found['seconds_each']:.3f} s each, {1 / found['seconds_each']:.2f} images/s"
    )
    if found["parts"]:
        print("| part | seconds |\n|---|---|")
        for part, seconds in found["parts"].items():
            print(f"| {part} | {seconds:.3f} |")
        print(f"sum {sum(found['parts'].values()):.3f} s; efficiency {found['efficiency']:.2f}")
    print("| done | resident MB |\n|---|---|")
    for share, size in found["memory"].items():
        print(f"| {share} | {size / MB:.0f} |")
    print("peak of each quarter, MB:", ", ".join(f"{size / MB:.0f}" for size in found["quarter_peaks"]))
    print(f"peak {found['peak'] / MB:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--size", default="4000x3000", metavar="WxH")
    parser.add_argument("--parts", type=int, default=5, help="photographs for the parts; 0 leaves them out")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, help="for the files; default: the system's temporary folder")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--parts-of", type=Path, nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("options", nargs="*", help="of prv2 batch, behind --")
    arguments = parser.parse_args()
    if arguments.count < 2:
        parser.error("--count: two photographs at least")
    if arguments.parts_of:
        *photos, out = arguments.parts_of
        print(json.dumps(run_parts(photos, out, arguments.device)))
        return
    width, height = map(int, arguments.size.split("x"))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder, out = Path(name, "photos"), Path(name, "depth")
        folder.mkdir()
        make_photographs(width, height, arguments.count, folder)
        parts: dict[str, float] = {}
        if arguments.parts:
            photos = [str(path) for path in sorted(folder.iterdir())[: arguments.parts]]
            command = [sys.executable, __file__, "--device", arguments.device, "--parts-of", *photos]
            done = subprocess.run(
                [*command, str(Path(name, "one.tif"))], check=True, stdout=subprocess.PIPE, text=True
            )
            parts = json.loads(done.stdout)
        batch = run_batch(folder, out, arguments.device, arguments.options)
    found = summary(batch, parts)
    report(found)
    if arguments.json:
        arguments.json.write_text(json.dumps({**found, "samples": batch["samples"]}, indent=2))


if __name__ == "__main__":
    main()
