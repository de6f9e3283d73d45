"""A whole bench: one photograph, some coarse networks, every scheme behind each of them, in one process.

Behind random weights a map would be noise, and prv2 would treat it as such. So what prv2 does after the coarse pass is
measured behind the map of `lite`, as soft as maps are, and counts for every network.
"""

from __future__ import annotations

import io
import platform
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from prv2cli.bench.meter import measured
from prv2cli.bench.networks import Candidate, Size, load_candidate
from prv2cli.bench.refiners import AtProcessSize, AuthorsRefiner, HeavyRefiner
from prv2cli.bench.report import BenchReport, NetworkReport, Row
from prv2cli.bench.schemes import behind, coarse_pass, prv2, tiled, up_sampling
from prv2cli.choices import BenchNetwork
from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.depth_files.ours.write import write_depth
from prv2cli.hub.registry import DEFAULT_REFINER
from prv2cli.machine.devices import choose_device
from prv2cli.photo.read import Photo, read_photo
from prv2cli.refine.refiner import Refiner
from prv2cli.resampling.maps import bilinear
from prv2cli.version import __version__

MADE_SIZE: Size = (2160, 3840)
AUTHORS_PROCESS: Size = (384, 512)
ON_CPU = 2  # tiles of each scheme but prv2 that are run where nobody says how many
_WARM_UP = 256  # pixels a side of a first pass that nobody counts

Progress = Callable[[int, int], None]


def bench(
    photo: Path | None,
    networks: Sequence[BenchNetwork],
    *,
    device: str = "auto",
    precision: str = "auto",
    tiles: int | None = None,
    progress: Progress = lambda done, total: None,
) -> BenchReport:
    """Measure everything.

    Args:
        photo: any photograph; None: a made one of 3840 x 2160.
        tiles: so many tiles of PatchRefiner and of the authors' PatchRefiner V2 are run, and the rest reckoned from
            them; None: 2 on a CPU, all on a GPU.
        progress: gets the networks done, and all of them.

    Raises:
        What reading the photograph raises; UsageError, DeviceError: no such device or precision.
    """
    where = choose_device(device)
    seconds: dict[str, float] = {}
    rgb = _decoded(photo, where, seconds).rgb
    refiner = Refiner.from_pretrained(DEFAULT_REFINER, coarse=None, device=device, precision=precision)
    lite = load_candidate("lite", where)
    given = lite.network.predict(rgb)
    prv2(refiner, rgb[:_WARM_UP, :_WARM_UP], lite.network.predict(rgb[:_WARM_UP, :_WARM_UP]))  # warms up
    wanted = list(dict.fromkeys(networks))
    progress(0, len(wanted))
    ours = prv2(refiner, rgb, given)
    limit = tiles or (ON_CPU if where.type == "cpu" else rgb.size)
    reports = []
    for done, name in enumerate(wanted, 1):
        network = lite if name == "lite" else load_candidate(name, where)
        reports.append(NetworkReport(name, tuple(rows_behind(network, refiner, rgb, ours, limit))))
        progress(done, len(wanted))
    seconds["encode"] = _encoded(given.values[0, 0].numpy(), rgb.shape[:2], where)
    return BenchReport(_about(photo, rgb, refiner), seconds, tuple(reports))


def rows_behind(
    network: Candidate, refiner: Refiner, rgb: np.ndarray, ours: Row, limit: int
) -> Iterator[Row]:
    """Every scheme behind one coarse network. `ours`: prv2 without a coarse pass; limit: see tiled()."""
    size = (rgb.shape[0], rgb.shape[1])
    coarse = coarse_pass(network.network, rgb, refiner.device)
    yield up_sampling(coarse, size, refiner.device)
    yield behind(ours, coarse)
    for scheme, make in _RIVALS.items():
        for row in tiled(scheme, make(network, refiner.device), refiner, rgb, coarse, limit):
            yield behind(row, coarse)


def _authors(network: Candidate, device: torch.device) -> AtProcessSize:
    return AuthorsRefiner(network.channels, AUTHORS_PROCESS, device)


_RIVALS: dict[str, Callable[[Candidate, torch.device], AtProcessSize]] = {
    "authors' PatchRefiner V2": _authors,
    "PatchRefiner": HeavyRefiner,
}


def _decoded(photo: Path | None, device: torch.device, seconds: dict[str, float]) -> Photo:
    """The photograph; without one a made picture, coded as a JPEG first."""
    source = io.BytesIO(_made_jpeg()) if photo is None else photo
    with measured(device) as spent:
        decoded = read_photo(source, name=None if photo is not None else "the made picture")
    seconds["decode"] = spent.seconds
    return decoded


def _made_jpeg() -> bytes:
    """Waves, a pattern of squares and grain."""
    y, x = np.mgrid[: MADE_SIZE[0], : MADE_SIZE[1]].astype(np.float32)
    grey = 120 + 60 * np.sin(x / 90) * np.cos(y / 70) + 30 * ((x // 160 + y // 120) % 2)
    grain = np.random.default_rng(0).integers(-8, 9, grey.shape)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(grey + grain, 0, 255).astype(np.uint8)).convert("RGB").save(
        buffer, "JPEG", quality=92
    )
    return buffer.getvalue()


def _encoded(coarse: np.ndarray, size: Sequence[int], device: torch.device) -> float:
    """Seconds that a depth file of the photograph's size takes, as `prv2 refine` writes it."""
    depth = bilinear(coarse, (size[0], size[1]))
    with tempfile.TemporaryDirectory() as folder, measured(device) as spent:
        write_depth(Path(folder) / "depth.tif", depth, DepthMetadata())
    return spent.seconds


def _about(photo: Path | None, rgb: np.ndarray, refiner: Refiner) -> dict[str, Any]:
    cuda = refiner.device.type == "cuda"
    return {
        "software": f"prv2cli {__version__}, torch {torch.__version__}",
        "photograph": "made" if photo is None else str(photo),
        "width": rgb.shape[1],
        "height": rgb.shape[0],
        "device": str(refiner.device),
        "device_name": torch.cuda.get_device_name(refiner.device) if cuda else _processor(),
        "threads": torch.get_num_threads(),
        "precision": str(refiner.dtype).removeprefix("torch."),
    }


def _processor() -> str:
    """What the system calls the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
