"""The page: one HTML file with its style, its program and its data inside, which asks nobody for anything.

PhotoLayer, DepthLayers ─ page_data ─ JSON ┐
page/*.html, *.css, *.js ──────────────────┴ assemble ─ bytes        is_page: is a file one of these?
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from prv2cli.depth_files.ours.metadata import SOFTWARE
from prv2cli.depth_files.ours.preview import colour_table
from prv2cli.files.protected import identity
from prv2cli.version import __version__
from prv2cli.view.material import DepthLayer, PhotoLayer, focal_of
from prv2cli.view.numbers import MOST_STEPS, pack

# In the order in which they need each other.
SCRIPTS = ("data", "picture", "stage", "profile", "points", "controls", "cloud", "input", "main")
_MARK = f'<meta name="generator" content="{SOFTWARE}'
_HEAD = 2048  # bytes of a page that have the mark


def assemble(photo: PhotoLayer, depths: Sequence[DepthLayer]) -> bytes:
    """The whole page, UTF-8."""
    parts = {
        "title": html.escape(f"{photo.name} · depth"),
        "generator": f'{_MARK} {__version__} view">',
        "style": _text("style.css"),
        "data": _as_element_text(page_data(photo, depths)),
        "script": "\n".join(_text(f"{name}.js") for name in SCRIPTS),
    }
    pieces = _text("page.html").split("{{")
    whole = [pieces[0]]
    for piece in pieces[1:]:
        name, _, rest = piece.partition("}}")
        whole += [parts[name], rest]
    return "".join(whole).encode("utf-8", "backslashreplace")


def page_data(photo: PhotoLayer, depths: Sequence[DepthLayer]) -> dict[str, Any]:
    """All that the page's program knows, ready for JSON. Sizes are (width, height) there, as in browsers."""
    return {
        "version": __version__,
        "photo": {
            "name": photo.name,
            "size": photo.size[::-1],
            "shown": photo.shown[::-1],
            "notes": photo.notes,
            "jpeg": base64.b64encode(photo.jpeg).decode("ascii"),
        },
        "depths": [_depth_data(layer, photo) for layer in depths],
        "colours": base64.b64encode(np.ascontiguousarray(colour_table()).tobytes()).decode("ascii"),
    }


def is_page(path: Path) -> bool:
    """Whether a regular file is a page that prv2 made."""
    if identity(path) is None:
        return False
    try:
        with path.open("rb") as file:
            return _MARK.encode() in file.read(_HEAD)
    except OSError:
        return False


def _depth_data(layer: DepthLayer, photo: PhotoLayer) -> dict[str, Any]:
    about = layer.metadata
    packed = pack(layer.values, about.scale)
    focal, origin = focal_of(layer, photo)
    return {
        "name": layer.name,
        "size": layer.size[::-1],
        "shown": layer.shown[::-1],
        "unit": about.unit,
        "inverse": about.kind == "inverse",
        "affine": layer.affine,
        "missing": layer.missing,
        "clipped": about.clipped,
        "top": MOST_STEPS / packed.scale
        if about.clipped and packed.bytes == 2
        else None,  # means: that or more
        "far": layer.span.far,
        "near": layer.span.near,
        "focal": focal,
        "focalFrom": origin,
        "model": about.model,
        "coarse": about.coarse,
        "notes": layer.notes,
        "bytes": packed.bytes,
        "scale": packed.scale,
        "text": packed.text,
    }


def _text(name: str) -> str:
    return (files("prv2cli.view") / "page" / name).read_text("utf-8")


def _as_element_text(data: dict[str, Any]) -> str:
    """JSON that no name of a file can end early: in a script element `<` alone has a meaning."""
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c")
