"""Seconds and peak memory of `prv2 export` for a 42-megapixel photograph, by format; and the README's picture of it.

    python benchmarks/export.py [--size 7952x5304] [--folder FOLDER]
    python benchmarks/export.py --picture FILE.png --depth DEPTH --photo PHOTO [--scale N] [--fov N] [--turn 25]

The first makes a depth map (16 bits, with sky) and a photograph of that size and runs each export in a fresh process.
The second draws a photograph, its normals, how near each pixel is, and its mesh seen from beside the camera.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from prv2cli.export.camera import Camera

EXPORTS = {
    ".glb": ("-o", "{folder}/scene.glb"),
    ".obj": ("-o", "{folder}/scene.obj"),
    ".ply": ("-o", "{folder}/scene.ply"),
    ".ply of all points": ("-o", "{folder}/scene.ply", "--max-points", "0"),
    ".exr layers": ("-o", "{folder}/scene.exr"),
    "normals .png": ("--normals", "{folder}/normals.png"),
    "picture .png": ("--picture", "{folder}/picture.png"),
}
PANEL = 300  # pixels across, of the picture
RADIUS = 4  # of normals: what a network draws is not smooth


def make_inputs(width: int, height: int, folder: Path) -> tuple[Path, Path]:
    """Slopes, waves, a ball before them and sky, as a 16-bit TIFF; noise and waves as a JPEG."""
    from prv2cli.depth_files.ours.metadata import DepthMetadata
    from prv2cli.depth_files.ours.write import write_depth

    y, x = np.ogrid[0:height, 0:width]
    depth = (3 - 1.5 * y / height + 0.3 * np.sin(x / 400) * np.cos(y / 300)).astype(np.float32)
    depth[(x - width // 2) ** 2 + (y - height // 2) ** 2 < (height // 4) ** 2] -= 0.8
    depth[: height // 7] = np.nan
    metadata = DepthMetadata(focal_px=0.85 * width, focal_origin="exif")
    write_depth(folder / "depth.tif", depth, metadata)
    noise = np.random.default_rng(0).integers(0, 24, (height, width), dtype=np.uint8)
    grey = np.nan_to_num(60 * depth, nan=200).astype(np.uint8) + noise
    Image.fromarray(np.stack([grey, grey // 2 + 60, 255 - grey], axis=-1)).save(
        folder / "photo.jpg", quality=92
    )
    return folder / "depth.tif", folder / "photo.jpg"


def measure(depth: Path, photo: Path, arguments: tuple[str, ...], folder: Path) -> tuple[float, float, int]:
    """Seconds by the clock and by the processor, and the peak memory in bytes, of one export in its own process."""
    start = time.perf_counter()
    flags = [argument.format(folder=folder) for argument in arguments]
    child = subprocess.Popen([sys.executable, "-m", "prv2cli", "export", str(depth), str(photo), *flags])
    _, status, used = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"prv2 export {' '.join(flags)} failed")
    return time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


def draw(out: Path, depth: Path, photo: Path, scale: float | None, fov: float | None, turn: float) -> None:
    """The README's picture: photograph, normals, nearness, mesh from beside; all from the exports themselves."""
    import trimesh

    from prv2cli.export.normals import normals_in_bands
    from prv2cli.export.targets import parse_target
    from prv2cli.export.view import read_view
    from prv2cli.export.write import export

    with tempfile.TemporaryDirectory() as folder:
        near, mesh = parse_target(f"picture:{folder}/near.png"), parse_target(f"{folder}/mesh.glb")
        view = read_view(depth, photo, targets=[near, mesh], scale=scale, fov=fov)
        export(view, [near, mesh])
        with Image.open(near.path) as picture:
            grey = np.asarray(picture) >> 8
        scene: Any = trimesh.load(mesh.path)
    normals = np.concatenate(list(normals_in_bands(view, radius=RADIUS)))
    assert view.rgb is not None
    assert view.camera is not None
    panels = [
        view.rgb,
        np.rint((normals + 1) * 127.5).astype(np.uint8),
        np.repeat(grey[..., None], 3, axis=2).astype(np.uint8),
        _from_beside(scene, turn, view.camera),
    ]
    height = round(PANEL * view.shape[0] / view.shape[1])
    small = [Image.fromarray(panel).resize((PANEL, height), Image.Resampling.BOX) for panel in panels]
    whole = Image.new("RGB", (len(small) * PANEL, height))
    for k, panel in enumerate(small):
        whole.paste(panel, (k * PANEL, 0))
    palette = whole.quantize(256)
    whole.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(out, optimize=True)


def _from_beside(scene: Any, turn: float, camera: Camera) -> np.ndarray:
    """The mesh of a loaded .glb as the camera sees it from `turn` degrees round its middle: (H, W, 3)."""
    (mesh,) = scene.geometry.values()
    height, width, focal = camera.height, camera.width, camera.focal.pixels
    texture = np.asarray(mesh.visual.material.baseColorTexture)
    corners = mesh.vertices[mesh.faces]
    weights = np.random.default_rng(0).dirichlet(
        (1, 1, 1), size=(len(corners), 12)
    )  # points on each triangle
    points = np.einsum("fpk,fkc->fpc", weights, corners).reshape(-1, 3)
    uv = np.einsum("fpk,fkc->fpc", weights, mesh.visual.uv[mesh.faces]).reshape(-1, 2)
    middle = np.median(mesh.vertices, axis=0)
    angle = np.radians(turn)
    turned = (points - middle) @ np.array(
        [[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]]
    ) + middle
    column = (width / 2 + focal * turned[:, 0] / -turned[:, 2]).astype(int)
    row = (height / 2 - focal * turned[:, 1] / -turned[:, 2]).astype(int)
    order = np.argsort(turned[:, 2], kind="stable")  # far ones first: near ones are painted over them
    seen = order[(column >= 0)[order] & (column < width)[order] & (row >= 0)[order] & (row < height)[order]]
    picture = np.full((height, width, 3), 255, np.uint8)
    rows = np.clip((1 - uv[seen, 1]) * texture.shape[0], 0, texture.shape[0] - 1).astype(int)
    columns = np.clip(uv[seen, 0] * texture.shape[1], 0, texture.shape[1] - 1).astype(int)
    picture[row[seen], column[seen]] = texture[rows, columns, :3]
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="7952x5304")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--depth", type=Path)
    parser.add_argument("--photo", type=Path)
    parser.add_argument("--scale", type=float)
    parser.add_argument("--fov", type=float)
    parser.add_argument("--turn", type=float, default=25.0)
    asked = parser.parse_args()
    if asked.picture:
        draw(asked.picture, asked.depth, asked.photo, asked.scale, asked.fov, asked.turn)
        return
    width, height = map(int, asked.size.split("x"))
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        folder = Path(name)
        depth, photo = make_inputs(width, height, folder)
        for export, arguments in EXPORTS.items():
            seconds, busy, peak = measure(depth, photo, arguments, folder)
            print(
                f"{export:20} {seconds:6.1f} s ({busy:.1f} s of the processor), {peak / 1e9:.2f} GB",
                flush=True,
            )


if __name__ == "__main__":
    main()
