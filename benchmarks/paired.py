"""Processor seconds of a photograph in two versions of prv2, alternately, so that other work on the machine hits both.

    python benchmarks/paired.py PHOTO OLD_CHECKOUT NEW_CHECKOUT [--coarse lite] [--runs 5] [--threads 1]

Each version runs in a process of its own, which loads the networks once; printed are the medians by part, the median of
the pairs' ratios, and how far the two depth maps are apart. Weights, too, are those of each checkout.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

SERVER = """
import json, sys, time
from contextlib import contextmanager
from pathlib import Path
import numpy as np
from prv2cli.photo.read import read_photo
from prv2cli.refine import refiner
from prv2cli.refine.request import Models

spent = {}

@contextmanager
def timed(seconds, part):
    start = time.process_time()
    yield
    spent[part] = spent.get(part, 0) + time.process_time() - start
    seconds[part] = 0.0

for name, module in list(sys.modules.items()):
    if name.startswith("prv2cli.refine") and hasattr(module, "timed"):
        module.timed = timed
photo, coarse, target = sys.argv[1:]
rgb = read_photo(Path(photo)).rgb
ours = refiner.Refiner.load(Models(coarse=coarse, device="cpu"))
ours.refine(rgb[:768, :1024])  # warms up
print("ready", flush=True)
for line in sys.stdin:
    spent.clear()
    start = time.process_time()
    depth = ours.refine(rgb).depth
    print(json.dumps({**spent, "all": time.process_time() - start}), flush=True)
np.save(target, depth)
"""


class Version:
    """A checkout, ready to refine the photograph again and again."""

    def __init__(self, checkout: Path, photo: Path, coarse: str, threads: int, target: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(photo.resolve()), coarse, str(target)],
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": str(threads)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._asked, self._answers = self._process.stdin, self._process.stdout
        self._answers.readline()

    def run(self) -> dict[str, float]:
        """Processor seconds by part."""
        self._asked.write("again\n")
        self._asked.flush()
        found: dict[str, float] = json.loads(self._answers.readline())
        return found

    def finish(self) -> None:
        """Have the depth map written."""
        self._asked.close()
        self._process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photo", type=Path)
    parser.add_argument("checkouts", type=Path, nargs=2)
    parser.add_argument("--coarse", default="lite")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        targets = [Path(folder, f"{i}.npy") for i in range(2)]
        versions = [
            Version(checkout, arguments.photo, arguments.coarse, arguments.threads, target)
            for checkout, target in zip(arguments.checkouts, targets, strict=True)
        ]
        runs = [[version.run() for version in versions] for _ in range(arguments.runs)]
        for version in versions:
            version.finish()
        old, new = (np.log(np.load(target).astype(np.float64)) for target in targets)
    print("| | old, s | new, s | new / old |\n|---|---|---|---|")
    for part in runs[0][0]:
        pairs = np.array([[of_one[part] for of_one in pair] for pair in runs])
        first, second = np.median(pairs, axis=0)
        print(f"| {part} | {first:.2f} | {second:.2f} | {np.median(pairs[:, 1] / pairs[:, 0]):.2f} |")
    apart = np.abs(old - new)
    print(f"log-depth differs by {np.nanmax(apart):.1e} at most, {np.nanmean(apart):.1e} on average")


if __name__ == "__main__":
    main()
