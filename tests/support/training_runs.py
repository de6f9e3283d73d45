"""Small runs for the tests of training: a bundle that takes milliseconds, and photographs with depth to train it on.

Run as a program it starts runs in processes of its own: `python training_runs.py kill|pair|spoilt FOLDER SETTINGS`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

PHOTOGRAPHS = 5
SIZE = (64, 96)  # rows, columns
PROCESS = (32, 64)
COARSE = {"kind": "lite", "encoder": "test_efficientnet", "width": 8, "long_side": 64}
REFINER = {
    "depth_space": "metres",
    "coarse": {"kind": "external", "channels": [4, 4, 8, 8, 16, 16]},
    "encoder": {"name": "test_efficientnet"},
    "c2f": {"widths": [8] * 6, "taps": "own"},
    "f2c": {"widths": [8] * 6, "decoder_widths": [8] * 5, "decoder_hidden": "output"},
}
BUNDLE = {"kind": "bundle", "process_size": list(PROCESS), "coarse": COARSE, "refiner": REFINER}


def write_photographs(root: Path, count: int = PHOTOGRAPHS, size: tuple[int, int] = SIZE) -> Path:
    """images/NN.png and depth/NN.npy (metres; every other one sparse) below `root`."""
    for folder in ("images", "depth"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    for number in range(count):
        rng = np.random.default_rng(number)
        depth = 2 + 0.03 * (x + number * y) + 4 * ((x // 16 + y // 24 + number) % 2)
        rgb = np.clip(40 + 25 * depth[..., None] + rng.normal(0, 5, (*size, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(rgb).save(root / "images" / f"{number:02d}.png")
        if number % 2:
            depth = np.where(rng.random(size) < 0.2, depth, 0)
        np.save(root / "depth" / f"{number:02d}.npy", depth.astype(np.float32))
    return root


def settings(root: Path, stage: str, **changes: Any) -> dict[str, Any]:
    """The configuration of a small run on the photographs below `root`; `changes` by key, groups merged."""
    raw: dict[str, Any] = {
        "stage": stage,
        "model": COARSE if stage == "coarse" else BUNDLE,
        "steps": 3,
        "batch_size": 2,
        "device": "cpu",
        "log_every": 1,
        "save_every": 2,
        "data": {"layout": "folder", "root": str(root), "scale": 1.0},
        "sampling": {"image": list(SIZE), "tile": [32, 48], "workers": 0},
        "optimiser": {"lr": 1e-3, "schedule": "one-cycle", "warmup": 0.3, "clip": 35.0},
    }
    for key, value in changes.items():
        merge = isinstance(value, dict) and isinstance(raw.get(key), dict)
        raw[key] = raw[key] | value if merge else value
    return raw


def write_config(path: Path, root: Path, stage: str, **changes: Any) -> Path:
    """The same as a YAML file."""
    path.write_text(yaml.safe_dump(settings(root, stage, **changes)), encoding="utf-8")
    return path


def read_log(folder: Path) -> list[dict[str, Any]]:
    """log.jsonl without the seconds."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


# --- processes ------------------------------------------------------------------------------------------------


def _train(config: str, out: Path, *flags: str) -> int:
    import torch

    from prv2cli.cli import app

    torch.set_num_threads(1)
    return app._run(["train", "--config", config, "-o", str(out), "-q", *flags], False)


def _fork(run: Any) -> int:
    """A child that does it; forked, because importing torch again would take seconds. Its process id."""
    child = os.fork()
    if child == 0:
        os._exit(run())
    return child


def kill(out: Path, config: str) -> int:
    """Start a run, kill -9 it at random moments, resume it until it is through. Exit code 0: killed three times."""
    rng, kills = random.Random(1), 0
    while True:
        saved = (out / "state.pt").exists()
        child = _fork(lambda saved=saved: _train(config, out, *(["--resume"] if saved else [])))
        deadline = time.monotonic() + rng.uniform(0.2, 0.8) if kills < 3 else float("inf")
        while time.monotonic() < deadline or not (out / "state.pt").exists():
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                return 0 if status == 0 and kills == 3 else 1
            time.sleep(0.005)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        kills += 1


def pair(out: Path, config: str, *, spoilt: bool = False) -> int:
    """Two processes of one run, with the environment that torchrun gives them.

    spoilt: the loss of the second one's second step is NaN.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def run(rank: int) -> int:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        if spoilt and rank == 1:
            _spoil_second_step()
        return _train(config, out)

    children = [_fork(lambda rank=rank: run(rank)) for rank in range(2)]
    return max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)


def _spoil_second_step() -> None:
    from prv2cli.training.stages.table import STAGES

    stage = STAGES["refine", False]

    def step(model: Any, batch: Any, progress: float, config: Any) -> Any:
        output = stage.step(model, batch, progress, config)
        second = round(progress * config.total_steps) == 1
        return output._replace(loss=output.loss * float("nan")) if second else output

    STAGES["refine", False] = stage._replace(step=step)


def spoilt(out: Path, config: str) -> int:
    return pair(out, config, spoilt=True)


def _import_all(config: str) -> None:
    """What the children will need, once for all of them."""
    from prv2cli.model.build import build_model
    from prv2cli.training import run as loop  # noqa: F401
    from prv2cli.training.config.load import load_train_config

    build_model(load_train_config(Path(config)).model)


if __name__ == "__main__":
    mode, folder, config = sys.argv[1:]
    _import_all(config)
    sys.exit({"kill": kill, "pair": pair, "spoilt": spoilt}[mode](Path(folder), config))
