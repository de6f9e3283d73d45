"""Peak memory and seconds of a giant photograph that is refined in bands, by part. Linux only.

    python benchmarks/giant.py [--size 30000x20000] [--formats tiff jpeg progressive] [--cheap] [--json FILE]

A picture of that size is made, and refined into a tiled BigTIFF in a fresh process. `--cheap`: the network sees
the first tile only, so that its memory counts, and the other tiles keep their coarse depth; all else is as it
is. Without it, 600 megapixels take some ten minutes on a processor. Needs about 8 GB of disk in `--folder`.
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
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

GB = 1e9
SUFFIX = {"tiff": "tif", "jpeg": "jpg", "progressive": "jpg"}
_BAND = 512


def make_photograph(width: int, height: int, kind: str, path: Path) -> None:
    """Waves, steps and noise; deflated strips where it is a TIFF, 4:2:0 where it is a JPEG."""
    import numpy as np
    import tifffile
    from PIL import Image

    noise = np.random.default_rng(0).normal(0, 6, (_BAND, width, 1)).astype(np.float32)

    def bands() -> Iterator[np.ndarray]:
        x = np.arange(width, dtype=np.float32)
        for top in range(0, height, _BAND):
            y = np.arange(top, min(top + _BAND, height), dtype=np.float32)[:, None]
            grey = 110 + 60 * np.sin(x / 900) * np.cos(y / 700) + 40 * ((x // 640 + y // 512) % 2)
            rgb = grey[..., None] * np.array([1, 0.9, 0.8], np.float32) + noise[: len(y)]
            yield np.clip(rgb, 0, 255).astype(np.uint8)

    if kind == "tiff":
        tifffile.imwrite(
            path,
            (zlib.compress(band.data, 1) for band in bands()),
            shape=(height, width, 3),
            dtype=np.uint8,
            photometric="rgb",
            rowsperstrip=_BAND,
            compression="zlib",
        )
        return
    Image.MAX_IMAGE_PIXELS = None
    picture = Image.new("RGB", (width, height))
    for i, band in enumerate(bands()):
        picture.paste(Image.fromarray(band), (0, i * _BAND))
    picture.save(path, quality=85, progressive=kind == "progressive")


class Peak(threading.Thread):
    """The largest resident memory since the last mark, in bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0

    def run(self) -> None:
        page = os.sysconf("SC_PAGE_SIZE")
        while True:
            self.peak = max(self.peak, int(Path("/proc/self/statm").read_text().split()[1]) * page)
            time.sleep(0.01)

    def take(self) -> int:
        peak, self.peak = self.peak, 0
        return peak


def _high_water_mark() -> int:
    """The most memory this program ever had. getrusage's figure would include the process that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def _keep_coarse_after_one_tile(refiner: Any) -> None:
    network, real = refiner.loop.network, refiner.loop.network.refine_cropped
    calls = []

    def refine_cropped(rgb: Any, depth: Any, features: Any, steeper: float = 1.0) -> Any:
        calls.append(rgb.shape)
        return real(rgb, depth, features, steeper) if len(calls) == 1 else depth

    network.refine_cropped = refine_cropped


def refine(photo_path: Path, out: Path, device: str, cheap: bool) -> dict[str, Any]:
    """Refine in this process: part -> [seconds, peak bytes], and the peak of all."""
    from prv2cli.photo.on_disk import photo_on_disk

    peak, parts = Peak(), {}
    peak.start()
    start = time.perf_counter()

    def mark(part: str) -> None:
        nonlocal start
        parts[part] = [time.perf_counter() - start, peak.take()]
        start = time.perf_counter()

    with photo_on_disk(photo_path, out.parent) as photo:
        mark("decode")

        from prv2cli import Refiner
        from prv2cli.depth_files.ours.encoding import Encoding, write
        from prv2cli.jobs.report import describe

        refiner = Refiner.from_pretrained(coarse="lite", device=device)
        if cheap:
            _keep_coarse_after_one_tile(refiner)
        mark("load")
        pixels: Any = photo.rgb
        with refiner.refine(pixels) as result:
            mark("refine")
            parts |= {f"  {part}": [seconds, 0] for part, seconds in result.seconds.items()}
            depth: Any = result.depth
            write(out, depth, describe(refiner, result, photo), Encoding("tiff"))
            mark("encode")
            tiles = result.tiling
    return {"parts": parts, "peak": _high_water_mark(), "tiling": tiles, "bytes": out.stat().st_size}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="30000x20000", metavar="WxH")
    parser.add_argument("--formats", nargs="+", choices=SUFFIX, default=["tiff", "jpeg"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cheap", action="store_true")
    parser.add_argument(
        "--folder", type=Path, help="where the files go; default: the system's temporary folder"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", type=Path, nargs=2, metavar=("PHOTO", "OUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        photo, out = arguments.one
        print(json.dumps(refine(photo, out, arguments.device, arguments.cheap)))
        return
    width, height = map(int, arguments.size.split("x"))
    found = {}
    for kind in arguments.formats:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            photo, out = Path(folder, f"giant.{SUFFIX[kind]}"), Path(folder, "depth.tif")
            make_photograph(width, height, kind, photo)
            command = [sys.executable, __file__, "--one", str(photo), str(out), "--device", arguments.device]
            command += ["--cheap"] if arguments.cheap else []
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found[kind] = json.loads(output) | {"photo_bytes": photo.stat().st_size}
        _report(kind, width, height, found[kind])
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2))


def _report(kind: str, width: int, height: int, result: dict[str, Any]) -> None:
    print(f"\n{kind}, {width} x {height}, {result['photo_bytes'] / GB:.2f} GB: {result['tiling']}")
    print(f"peak {result['peak'] / GB:.2f} GB; output {result['bytes'] / GB:.2f} GB")
    print("| part | seconds | peak GB |\n|---|---|---|")
    for part, (seconds, memory) in result["parts"].items():
        print(
            f"| {part} | {seconds:.1f} | {memory / GB:.2f} |" if memory else f"| {part} | {seconds:.1f} | |"
        )


if __name__ == "__main__":
    main()
