"""A textured mesh as .glb, or as .obj with its material and its texture. trimesh writes both (extra `mesh`).

View ─ every n-th pixel ─ triangles ─ points, normals, places in the photograph ─ trimesh ─> .glb
                                                  photograph as JPEG ─ texture ──┘        .obj, .mtl, .jpg
"""

from __future__ import annotations

import io
import math
import os
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from prv2cli.depth_files.ours.signature import MADE_BY, signature
from prv2cli.errors import InputError
from prv2cli.export.camera import first_of
from prv2cli.export.normals import normals_in_bands
from prv2cli.export.points import AXES, place, smallest_step
from prv2cli.export.view import View
from prv2cli.extras import import_trimesh
from prv2cli.photo.levels import to_8_bits

MAX_EDGE = 1.05  # farthest to nearest corner of a triangle
MAX_FACES = 2_000_000
TEXTURE_SIDE = 8192  # pixels: what graphics cards take, and viewers in browsers
_QUALITY = 92  # of JPEG
_TEXTURE_BAND = 1 << 22  # pixels
_MATERIAL = "photograph"
_WHITE, _BLACK = (255, 255, 255, 255), (0, 0, 0, 255)


class MeshReport(NamedTuple):
    """What was written. step: of every how-many-th pixel; texture: its width and height, None without a photograph."""

    vertices: int
    faces: int
    cut: int
    step: int
    texture: tuple[int, int] | None


@dataclass(frozen=True)
class Texture:
    """A picture that is encoded already, with what trimesh asks of one of Pillow's."""

    jpeg: bytes
    size: tuple[int, int]
    format: str = "JPEG"
    mode: str = "RGB"

    def save(self, fp: BinaryIO, format: str | None = None) -> None:
        """Write the bytes as they are."""
        fp.write(self.jpeg)


@dataclass(frozen=True)
class Mesh:
    """A mesh of trimesh's, and what there is to say of it."""

    mesh: Any
    texture: Texture | None
    report: MeshReport
    fov_degrees: tuple[float, float]


def make_mesh(
    view: View, *, max_faces: int = MAX_FACES, max_edge: float = MAX_EDGE, radius: int | None = None
) -> Mesh:
    """The mesh of a view. Raises InputError where no triangle is left.

    max_faces: of more triangles every second pixel in each direction is taken, or every third, and so on; 0 = all.
    max_edge: how many times farther than the nearest the farthest corner of a triangle may be. radius: of normals.
    """
    trimesh = import_trimesh()
    step = smallest_step(*view.shape, lambda h, w: not 0 < max_faces < 2 * (h - 1) * (w - 1))
    z, rays = view.metres(step), view.rays(step)
    faces, corners, cut = surface(z, max_edge)
    if not len(faces):
        raise InputError(
            f"{view.name}: no triangle is left between its pixels; a larger --max-edge (it is {max_edge:g}) cuts fewer"
        )
    i, j = np.divmod(corners, len(rays.x))
    normals = np.concatenate([band.reshape(-1, 3) for band in normals_in_bands(view, step, radius)])[corners]
    texture = None if view.texture is None else make_texture(view.texture)
    mesh = trimesh.Trimesh(
        place(z[i, j], rays.x[j], rays.y[i]),
        faces,
        vertex_normals=normals,
        visual=None if texture is None else _visual(trimesh, view, texture, i, j, step),
        process=False,
        validate=False,
    )
    size = None if texture is None else texture.size
    camera = view.camera
    assert camera is not None, "checked before"
    return Mesh(mesh, texture, MeshReport(len(corners), len(faces), cut, step, size), camera.fov_degrees)


def _visual(trimesh: Any, view: View, texture: Texture, i: np.ndarray, j: np.ndarray, step: int) -> Any:
    """The photograph on the corners in row i and column j; the origin of places in it is at the bottom left."""
    height, width = view.shape
    across = (first_of(step, width) + step * j + 0.5) / width
    up = 1 - (first_of(step, height) + step * i + 0.5) / height
    material = trimesh.visual.material.PBRMaterial(
        name=_MATERIAL, baseColorTexture=texture, metallicFactor=0.0, roughnessFactor=1.0, doubleSided=True
    )
    return trimesh.visual.TextureVisuals(np.stack([across, up], axis=-1), material=material)


def make_texture(rgb: np.ndarray) -> Texture:
    """A JPEG of the photograph (h, w, 3), reduced by a whole number where a side has more than TEXTURE_SIDE pixels."""
    from PIL import Image

    height, width = rgb.shape[:2]
    factor = -(-max(height, width) // TEXTURE_SIDE)
    size = -(-width // factor), -(-height // factor)
    picture = Image.new("RGB", size)
    rows = max(1, _TEXTURE_BAND // width // factor) * factor
    for top in range(0, height, rows):
        band = Image.fromarray(np.ascontiguousarray(to_8_bits(rgb[top : top + rows])))
        picture.paste(band.reduce(factor) if factor > 1 else band, (0, top // factor))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY, subsampling=0, **signature("JPEG"))
    return Texture(buffer.getvalue(), size)


def write_glb(file: BinaryIO, made: Mesh) -> None:
    """glTF 2.0 in one file: the mesh, its texture, and the photograph's camera at the origin."""
    trimesh = import_trimesh()
    scene = trimesh.Scene({"depth": made.mesh})
    across, down = made.fov_degrees
    scene.camera = trimesh.scene.Camera(name=_MATERIAL, fov=made.fov_degrees)
    scene.camera_transform = np.eye(4)

    def complete(tree: dict[str, Any]) -> None:
        tree["asset"]["generator"] = MADE_BY
        aspect = math.tan(math.radians(across) / 2) / math.tan(math.radians(down) / 2)
        tree["cameras"][0]["perspective"]["aspectRatio"] = aspect  # trimesh has that of the angles

    file.write(trimesh.exchange.gltf.export_glb(scene, include_normals=True, tree_postprocessor=complete))


def write_obj(file: BinaryIO, made: Mesh, companions: tuple[tuple[str, BinaryIO], ...]) -> None:
    """Wavefront's text. companions: names and files of the material and of the texture; none without a texture."""
    trimesh = import_trimesh()
    mesh, header = made.mesh, f"{MADE_BY}\n# {AXES}"
    if made.texture is None:
        file.write(trimesh.exchange.obj.export_obj(mesh, include_normals=True, header=header).encode())
        return
    (material_name, material), (texture_name, texture) = companions
    mesh = mesh.copy(include_cache=True)  # which holds the normals that were given
    mesh.visual.material = trimesh.visual.material.SimpleMaterial(
        image=made.texture, name=_MATERIAL, diffuse=_WHITE, ambient=_WHITE, specular=_BLACK, glossiness=1.0
    )
    text, files = trimesh.exchange.obj.export_obj(
        mesh, include_normals=True, return_texture=True, mtl_name=material_name, header=header
    )
    file.write(text.encode(errors="surrogateescape"))  # names that are no text
    (own_name,) = files.keys() - {material_name}  # what trimesh calls the texture
    material.write(files[material_name].replace(own_name.encode(), os.fsencode(texture_name)))
    texture.write(made.texture.jpeg)


# --- triangles --------------------------------------------------------------------------------------------


class Surface(NamedTuple):
    """faces: (n, 3) int32 into the corners, anticlockwise as seen from the camera; corners: (m,) of the flattened grid.

    cut: triangles that were left out because they would cross a depth edge.
    """

    faces: np.ndarray
    corners: np.ndarray
    cut: int


def surface(z: np.ndarray, max_edge: float = MAX_EDGE) -> Surface:
    """The triangles over a grid of depths (h, w), NaN = no depth: two between four neighbours, none across an edge.

    a - b    They share the diagonal along which depth changes less, so that an edge is followed closely.
    |   |
    c - d
    """
    height, width = z.shape
    index = np.arange(height * width, dtype=np.int32).reshape(height, width)
    with np.errstate(all="ignore"):
        logs = np.log(z, dtype=np.float32)
    a, b, c, d = (logs[:-1, :-1], logs[:-1, 1:], logs[1:, :-1], logs[1:, 1:])
    first, second = (np.nan_to_num(np.abs(one - other), nan=np.inf) for one, other in ((a, d), (b, c)))
    falling = first <= second  # the diagonal from a to d; where both lead to a hole, no matter
    limit = np.float32(np.log(max_edge))
    faces, cut = [], 0
    corners = {"a": index[:-1, :-1], "b": index[:-1, 1:], "c": index[1:, :-1], "d": index[1:, 1:]}
    depths = {"a": a, "b": b, "c": c, "d": d}
    for names, here in (("acd", falling), ("adb", falling), ("acb", ~falling), ("bcd", ~falling)):
        lowest = np.minimum(np.minimum(depths[names[0]], depths[names[1]]), depths[names[2]])
        highest = np.maximum(np.maximum(depths[names[0]], depths[names[1]]), depths[names[2]])
        whole = here & np.isfinite(highest - lowest)
        kept = whole & (highest - lowest <= limit)
        cut += int(np.count_nonzero(whole)) - int(np.count_nonzero(kept))
        faces.append(np.stack([corners[name][kept] for name in names], axis=-1))
    return _renumbered(np.concatenate(faces), height * width, cut)


def _renumbered(faces: np.ndarray, count: int, cut: int) -> Surface:
    used = np.zeros(count, bool)
    used[faces.ravel()] = True
    number = np.cumsum(used, dtype=np.int32) - 1
    return Surface(number[faces], np.flatnonzero(used), cut)
