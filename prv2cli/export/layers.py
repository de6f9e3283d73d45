"""OpenEXR with layers, by the names that Nuke and Blender read (extra `exr`): R G B, Z, N.X N.Y N.Z, confidence, mask.

R, G, B are scene-linear, as compositors expect. Z is the depth in metres along the axis of the camera, 0 where there is
none; there `mask` is 0, too, and 1 elsewhere. N is the normal: x right, y up, z towards the camera. All but Z are half
floats.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np

from prv2cli.depth_files.formats.exr import EXR_KEY
from prv2cli.depth_files.ours.metadata import SOFTWARE, DepthMetadata
from prv2cli.depth_files.ours.signature import MADE_BY
from prv2cli.export.camera import PRINCIPAL, Camera
from prv2cli.export.normals import normals_in_bands
from prv2cli.export.view import View
from prv2cli.extras import import_openexr
from prv2cli.files.disk_array import bands
from prv2cli.version import __version__


def write_layers(
    file: BinaryIO, view: View, *, radius: int | None = None, directx: bool = False
) -> list[str]:
    """All layers that the view has, in one file; their names. It is a depth file, too: prv2 reads its Z.

    OpenEXR takes whole layers, from memory.
    """
    channels: dict[str, np.ndarray] = {}
    if view.rgb is not None:
        channels |= _linear(view.rgb)
    channels["Z"] = np.nan_to_num(view.metres(), nan=0.0)
    channels["mask"] = (channels["Z"] > 0).astype(np.float16)
    channels |= _normals(view, ("N.X", "N.Y", "N.Z"), np.float16, radius, directx)
    if view.confidence is not None:
        channels["confidence"] = np.nan_to_num(view.confidence, nan=0.0).astype(np.float16)
    # Whoever wrote the depth, this file is prv2's.
    about = replace(view.metadata.as_kind("depth"), software=SOFTWARE, version=__version__)
    about = _with_camera(replace(about, scale=1.0, invalid=0.0, clipped=0), view.camera)
    _write(file, channels, {"software": f"{MADE_BY} layers", EXR_KEY: about.to_json()})
    return sorted(channels)


def _with_camera(about: DepthMetadata, camera: Camera | None) -> DepthMetadata:
    """What is said of the file, with the camera that its normals were made for."""
    if camera is None:
        return about
    # What the file that it was made from says of the principal point may be overruled.
    extra = {key: value for key, value in about.extra.items() if key != PRINCIPAL}
    if camera.principal != (camera.width / 2, camera.height / 2):
        extra[PRINCIPAL] = list(camera.principal)
    return replace(
        about,
        focal_px=camera.focal.pixels,
        focal_origin=camera.focal.origin,
        fov_degrees=camera.fov_degrees[0],
        extra=extra,
    )


def write_normals_exr(
    file: BinaryIO, view: View, *, radius: int | None = None, directx: bool = False
) -> None:
    """Normals alone, float32 from -1 to 1 in R, G and B, as pictures of normals have them."""
    channels = _normals(view, ("R", "G", "B"), np.float32, radius, directx)
    _write(file, channels, {"software": f"{MADE_BY} normals"})


def _write(file: BinaryIO, channels: dict[str, np.ndarray], header: dict[str, Any]) -> None:
    module = import_openexr()
    kinds = {"compression": module.ZIP_COMPRESSION, "type": module.scanlineimage}
    module.File({**kinds, **header}, channels).write(file)


def _normals(
    view: View, names: tuple[str, str, str], dtype: type[np.floating[Any]], radius: int | None, directx: bool
) -> dict[str, np.ndarray]:
    found = {name: np.empty(view.shape, dtype) for name in names}
    top = 0
    for band in normals_in_bands(view, radius=radius):
        if directx:
            band[..., 1] *= -1
        for axis, name in enumerate(names):
            found[name][top : top + len(band)] = band[..., axis]
        top += len(band)
    return found


def _linear(rgb: np.ndarray) -> dict[str, np.ndarray]:
    """sRGB (H, W, 3) of 8 or 16 bits as light, in half floats."""
    stored = np.arange(np.iinfo(rgb.dtype).max + 1) / np.iinfo(rgb.dtype).max
    light = np.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4).astype(np.float16)
    found = {name: np.empty(rgb.shape[:2], np.float16) for name in "RGB"}
    for rows in bands(*rgb.shape[:2]):
        for axis, name in enumerate("RGB"):
            found[name][rows] = light[rgb[rows, :, axis]]
    return found
