"""Depth maps of surfaces known by their equations, seen by a camera, as exports take them; files read by trimesh."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import trimesh

from prv2cli.depth_files.ours.metadata import DepthMetadata
from prv2cli.export.camera import Camera, Focal, Rays
from prv2cli.export.view import View

FOCAL = 120.0


def camera(height: int, width: int, focal: float = FOCAL) -> Camera:
    return Camera(width, height, Focal(focal, "given"), (width / 2, height / 2))


def view_of(
    depth: np.ndarray,
    rgb: np.ndarray | None = None,
    *,
    focal: float = FOCAL,
    confidence: np.ndarray | None = None,
    metadata: DepthMetadata | None = None,
) -> View:
    """A view of depth (H, W) in metres with its camera."""
    values = np.asarray(depth, np.float32)
    return View(
        "depth.npy",
        values,
        metadata or DepthMetadata(focal_px=focal, focal_origin="given"),
        camera(values.shape[0], values.shape[1], focal),
        rgb=rgb,
        texture=rgb,
        confidence=confidence,
    )


def load_3d(source: Path | bytes, suffix: str = "glb") -> Any:
    """What trimesh reads: a mesh, a cloud, or of a .glb its only mesh."""
    found: Any = trimesh.load(io.BytesIO(source) if isinstance(source, bytes) else source, file_type=suffix)
    return next(iter(found.geometry.values())) if suffix == "glb" else found


class Surface(NamedTuple):
    """Depth (H, W) and its true normals (H, W, 3), x right, y up, z towards the camera."""

    depth: np.ndarray
    normals: np.ndarray


def plane(rays: Rays, normal: tuple[float, float, float], distance: float) -> Surface:
    """A plane at `distance` from the camera; `normal`: x right, y up, z towards the camera, which it faces."""
    n = np.array(normal) / np.linalg.norm(normal)
    depth = distance / -(n[0] * rays.x - n[1] * rays.y[:, None] - n[2])
    return Surface(depth, np.broadcast_to(n, (*depth.shape, 3)))


def ball(
    rays: Rays, centre: tuple[float, float, float], radius: float, wall: float
) -> tuple[Surface, np.ndarray]:
    """A ball, its centre at x right, y down, z away, before a wall at a depth of `wall`; where the ball is."""
    shape = (len(rays.y), len(rays.x))
    towards = np.stack(
        [np.broadcast_to(rays.x, shape), np.broadcast_to(rays.y[:, None], shape), np.ones(shape)], -1
    )
    c, square = np.array(centre), (towards**2).sum(-1)
    inside = (towards @ c) ** 2 - square * (c @ c - radius**2)
    hit = inside > 0
    depth = np.where(hit, ((towards @ c) - np.sqrt(np.maximum(inside, 0))) / square, wall)
    outwards = (towards * depth[..., None] - c) / radius * (1, -1, -1)
    return Surface(depth, np.where(hit[..., None], outwards, (0.0, 0.0, 1.0))), hit


def colours(height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8: red tells the column, green the row."""
    rgb = np.full((height, width, 3), 40, np.uint8)
    rgb[..., 0] = np.arange(width)
    rgb[..., 1] = np.arange(height)[:, None]
    return rgb
