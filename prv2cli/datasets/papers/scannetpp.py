"""ScanNet++ (Yeshwanth et al., ICCV 2023): rooms, with depth rendered from a laser scan.

    data/<scene>/iphone/rgb/frame_000000.jpg              pictures of a telephone, 1920 x 1440
    data/<scene>/iphone/render_depth/frame_000000.png     16 bits: millimetres, 0 = none (the toolkit's common.render)
    data/<scene>/iphone/depth/frame_000000.png            the telephone's own depth, 256 x 192
    data/<scene>/dslr/resized_images/DSC00001.JPG         and dslr/render_depth/DSC00001.png
    data/<scene>/<device>/nerfstudio/transforms.json      fl_x and w
    splits/nvs_sem_val.txt                                one scene a line; or a file with a picture and a depth a line

Depth of another size is brought to the picture's by taking the nearest pixel, as the PatchRefiner authors do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from prv2cli.datasets.samples import (
    ListedData,
    Sample,
    check_root,
    listed_files,
    mark_invalid,
    name_of,
    read_json,
    read_numbers,
    read_rgb,
    split_lines,
)
from prv2cli.errors import InputError
from prv2cli.resampling.maps import nearest
from prv2cli.settings import Settings

_PICTURES = {"iphone": "rgb", "dslr": "resized_images"}
_SUFFIXES = {".jpg", ".jpeg", ".png"}
_MILLIMETRES = 1000.0


class ScanNetPPData(Settings):
    """`split`: a list of scenes, or of pictures with their depth; None: every scene. `depth`: folder of the truth."""

    layout: Literal["scannetpp"] = "scannetpp"
    root: Path
    split: str | None = None
    device: Literal["iphone", "dslr"] = "iphone"
    depth: str = "render_depth"


class _Files(NamedTuple):
    image: Path
    depth: Path


class ScanNetPP(ListedData[_Files]):
    """Pictures of one device in some scenes; those without a depth map are no samples."""

    def __init__(self, config: ScanNetPPData) -> None:
        root = check_root(config.root)
        scenes = root / "data" if (root / "data").is_dir() else root
        if config.split is None:
            files = _in_scenes(sorted(path for path in scenes.iterdir() if path.is_dir()), config)
        else:
            lines = split_lines(root, config.split, 1, "a scene, or a picture and its depth", "splits")
            if all(len(line) == 1 for line in lines):
                files = _in_scenes([scenes / line[0] for line in lines], config)
            elif all(len(line) > 1 for line in lines):
                files = [_Files(*paths) for paths in listed_files(lines, root, 0, 1)]
            else:
                raise InputError(
                    f"data.split {config.split}: some lines are scenes and some are pairs of files"
                )
        super().__init__(
            [(name_of(pair.image, scenes), pair) for pair in files],
            f"data.root {root}: no ScanNet++ sample (data/<scene>/{config.device}/{config.depth}/*.png); "
            "the depth is made by the toolkit's common.render",
        )

    def _load(self, name: str, entry: _Files) -> Sample:
        rgb = read_rgb(entry.image)
        truth = mark_invalid(read_numbers(entry.depth) / _MILLIMETRES)
        return Sample(name, rgb, nearest(truth, rgb.shape[:2]), None, _focal(entry.image, rgb.shape[1]))


def _in_scenes(scenes: list[Path], config: ScanNetPPData) -> list[_Files]:
    files = []
    for scene in scenes:
        device = scene / config.device
        depths = sorted((device / config.depth).glob("*.png"))
        if not depths and config.split is not None:
            # A scene that the list names: told as a broken sample, or nobody would miss it.
            depths = [device / config.depth / "*.png"]
        folder = device / _PICTURES[config.device]
        there = sorted(folder.iterdir()) if folder.is_dir() else []
        pictures = {path.stem: path for path in reversed(there) if path.suffix.lower() in _SUFFIXES}
        files += [_Files(pictures.get(depth.stem, folder / f"{depth.stem}.jpg"), depth) for depth in depths]
    return files


def _focal(image: Path, width: int) -> float | None:
    """In pixels of a picture `width` wide, None where the device's transforms.json is not there."""
    path = image.parents[1] / "nerfstudio" / "transforms.json"
    if not path.is_file():
        return None
    camera = read_json(path)
    try:
        return float(camera["fl_x"]) * width / float(camera["w"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise InputError(f"{path}: no fl_x and w") from error
