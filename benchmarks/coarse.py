"""Seconds and peak memory of every kind of coarse network at its own input size.

    python benchmarks/coarse.py [--kinds lite dav2-vits ...] [--device cpu] [--threads N] [--passes N] [--json FILE]

The weights are random and of the real shapes, so nothing is downloaded; time and memory do not depend on their
values. Each kind runs in a fresh process: its memory is the system's figure for that process. The photograph is
a made one of 12 megapixels (4000 x 3000); a pass is everything from its pixels to the coarse depth, for MoGe-2 with as
many patches as it takes for such a photograph. `zoedepth` and `depth-pro` need the extra `transformers`. Depth Pro has
950 million weights; it is only run when named. Processor seconds are those of all threads together: with one thread
they hardly depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PHOTOGRAPH = (3000, 4000)
PASSES = 3
DEFAULT_KINDS = (
    "lite",
    "moge2-vits",
    "moge2-vitb",
    "moge2-vitl",
    "dav2-vits",
    "dav2-vitb",
    "dav2-vitl",
    "da3-large",
    "zoedepth",
)


def build(kind: str, device: Any) -> Any:
    """A CoarseNetwork of this kind with random weights."""
    from prv2cli.coarse.load import wrap
    from prv2cli.model.build import build_model
    from prv2cli.model.config import Da3Config, Dav2Config, LiteConfig, Moge2Config, ZoeDepthConfig

    if kind == "depth-pro":
        return build_depth_pro(device)
    configs: dict[str, Callable[[], Any]] = {
        "lite": LiteConfig,
        "moge2-vits": Moge2Config,
        "moge2-vitb": lambda: Moge2Config(encoder="vitb", widths=(768, 256, 128, 64, 32)),
        "moge2-vitl": lambda: Moge2Config(
            encoder="vitl",
            taps=(5, 11, 17, 23),
            widths=(1024, 256, 128, 64, 32),
            neck_units=(0, 2, 2, 2, 0),
        ),
        "da3-large": Da3Config,
        "dav2-vits": lambda: Dav2Config(encoder="vits"),
        "dav2-vitb": lambda: Dav2Config(encoder="vitb"),
        "dav2-vitl": lambda: Dav2Config(encoder="vitl"),
        "zoedepth": lambda: ZoeDepthConfig(transformers=zoedepth_settings()),
    }
    config = configs[kind]()
    module = build_model(config).eval().requires_grad_(False).to(device)
    return wrap(module, config, device, kind, "random weights")


def zoedepth_settings() -> dict[str, Any]:
    """The settings of the published NYU + KITTI model: BEiT-L behind two metric heads."""
    import transformers

    taken: dict[str, Any] = {"out_features": ["stage6", "stage12", "stage18", "stage24"]}
    backbone = transformers.BeitConfig(
        image_size=384,
        num_hidden_layers=24,
        hidden_size=1024,
        intermediate_size=4096,
        num_attention_heads=16,
        use_relative_position_bias=True,
        reshape_hidden_states=False,
        **taken,
    )
    heads = [
        {"n_bins": 64, "min_depth": 1e-3, "max_depth": 10.0, "name": "nyu"},
        {"n_bins": 64, "min_depth": 1e-3, "max_depth": 80.0, "name": "kitti"},
    ]
    settings = transformers.ZoeDepthConfig(
        backbone_config=backbone,
        neck_hidden_sizes=[256, 512, 1024, 1024],
        bin_configurations=heads,
        num_patch_transformer_layers=4,
        patch_transformer_hidden_size=128,
        patch_transformer_intermediate_size=1024,
        patch_transformer_num_attention_heads=4,
    )
    return json.loads(settings.to_json_string(use_diff=False))


def build_depth_pro(device: Any) -> Any:
    """Depth Pro of the published size, written to a folder and read back by the loader that users have."""
    import tempfile

    import transformers

    from prv2cli.coarse.transformers.network import load_transformers_coarse

    with tempfile.TemporaryDirectory() as folder:
        model = transformers.DepthProForDepthEstimation(transformers.DepthProConfig(use_fov_model=True))
        model.save_pretrained(folder)
        transformers.DepthProImageProcessor().save_pretrained(folder)
        del model
        return load_transformers_coarse(Path(folder), device, "depth-pro", "random weights")


def run_one(kind: str, device_name: str, threads: int, passes: int) -> dict[str, float | int | str]:
    """In this process: load, one pass to warm up, then the fastest of some; without any, the first one counts."""
    import numpy as np
    import torch

    from prv2cli.machine.devices import choose_device

    if threads:
        torch.set_num_threads(threads)
    device = choose_device(device_name)
    rgb = np.random.default_rng(0).integers(0, 256, (*PHOTOGRAPH, 3), dtype=np.uint8)
    network = build(kind, device)
    times, worked = [], []
    for _ in range(1 + passes):
        start, begun = time.perf_counter(), time.process_time()
        depth = network.predict(rgb).values
        times.append(time.perf_counter() - start)
        worked.append(time.process_time() - begun)
    cuda = device.type == "cuda"
    return {
        "kind": kind,
        "first_seconds": times[0],
        "seconds": min(times[1:] or times),
        "processor_seconds": min(worked[1:] or worked),
        "process_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
        "device_peak_mb": torch.cuda.max_memory_allocated(device) / 1e6 if cuda else 0.0,
        "depth": "x".join(str(side) for side in depth.shape[-2:]),
        "device": str(device),
        "threads": torch.get_num_threads(),
    }


def run_afresh(kind: str, arguments: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", kind, "--device", arguments.device]
    command += ["--threads", str(arguments.threads), "--passes", str(arguments.passes)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{kind}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", nargs="+", default=DEFAULT_KINDS, choices=(*DEFAULT_KINDS, "depth-pro"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as torch takes")
    parser.add_argument("--passes", type=int, default=PASSES, help="after the first one")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        found = run_one(arguments.one, arguments.device, arguments.threads, arguments.passes)
        print(json.dumps(found))
        return
    results = []
    print(
        "| coarse network | depth | seconds | processor s | first pass | process peak MB | device peak MB |"
    )
    print("|---|---|---|---|---|---|---|")
    for kind in arguments.kinds:
        found = run_afresh(kind, arguments)
        results.append(found)
        print(
            f"| {kind} | {found['depth']} | {found['seconds']:.2f} | {found['processor_seconds']:.2f} | "
            f"{found['first_seconds']:.2f} | "
            f"{found['process_peak_mb']:.0f} | {found['device_peak_mb']:.0f} |",
            flush=True,
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
