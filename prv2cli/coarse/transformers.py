"""Depth networks of transformers as coarse networks: `--coarse hf:org/name` (extra `transformers`).

    folder ─ settings checked ─ safetensors only, every tensor accounted for ─ network and its image processor
    photograph ─ made small ─ processor ─ network ─ the processor's post-processing ─ made positive ─ CoarseDepth

What a network's numbers mean is read from its settings alone (`describe`). Whatever does not say that it gives metres
is never taken for metres.
"""

from __future__ import annotations

import importlib
import json
import logging
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prv2cli.checkpoints.safe_read import FLOATING, INTEGERS, check_header, check_values
from prv2cli.coarse.network import CoarseDepth, CoarseNetwork, Kind, Unit
from prv2cli.errors import CheckpointError, InputError, MissingExtraError
from prv2cli.files.disk_array import DiskArray
from prv2cli.files.text import first_line
from prv2cli.resampling.area import shrink

logger = logging.getLogger("prv2cli")

Size = tuple[int, int]  # rows, columns

# A relative map has an unknown shift and may be 0 (as inverse depth: infinitely far). Nothing is taken to be more than
# this many times as far away as the nearest point, so that 1/x stays within a range that can be refined.
RELATIVE_RANGE = 1000
# The processor gets photographs of at most this many times the network's input: area-averaged, every pixel counts, and
# what is left to its own interpolation, which may not be antialiased, misses nothing.
REDUCTION = 2
# Networks that take any size are run at no more pixels than this, about the images that GLPN and DINOv2's depth heads
# were trained on; far larger ones they have never seen.
FREE_PIXELS = 480 * 640
MAX_ASPECT = 4  # strips longer than this are run at a smaller size: memory stays bounded
MIN_SIDE = 32  # the deepest stride of these networks
SIDE_MULTIPLE = 32

# Types that transformers counts among the depth networks, but that give something else.
_NO_DEPTH = {"chmv2": "the height of trees in aerial photographs"}
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
# The first fusion block has no previous level to add, so this unit is never run. Some publishers left it out.
_UNUSED = re.compile(r"(.*\.)?fusion_stage\.(layers|intermediate)\.0\.residual_layer1\..*")
# Stored by earlier versions of transformers: constants that the network makes itself, and a layer for classification.
_SURPLUS = re.compile(
    r"(.*\.)?(relative_position_index|k_idx|k_minus_1|position_ids|num_batches_tracked)|dpt\.pooler\..*"
)


def load_transformers_coarse(folder: Path, device: torch.device, name: str, identity: str) -> CoarseNetwork:
    """The depth network in a local folder, ready on a device.

    Args:
        folder: as transformers saves it: config.json, preprocessor_config.json and model.safetensors, whole or in
            parts with their index. Nothing else is read, and nothing is downloaded.
        name: what messages call it. identity: tells its weights apart, e.g. a commit.

    Raises:
        MissingExtraError: transformers is not installed.
        CheckpointError: no such files, weights as a pickle only, tensors that do not fit, or no depth network.
    """
    model = load_pretrained(folder, name)
    try:
        processor = import_transformers().AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # it reports faults of the file in many ways
        raise CheckpointError(
            f"{name}: no image processor that transformers can read (preprocessor_config.json): "
            f"{first_line(error)[:300]}"
        ) from error
    kind, unit = describe(model.config)
    _say_what_is_unknown(model.config, name)
    return TransformersNetwork(model.to(device), processor, kind, unit, device, name, identity)


def import_transformers() -> Any:
    """The library, imported only where it is used. Raises MissingExtraError."""
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise MissingExtraError("hf: models", "transformers") from error


def describe(config: Any) -> tuple[Kind, Unit]:
    """What the post-processed values of a depth network are, from its configuration (as transformers reads it).

    - depth_anything: inverse depth up to scale and shift, or metres where depth_estimation_type is metric.
    - zoedepth, glpn, tipsv2_dpt: metres.
    - depth_pro: metres where it has a field-of-view head; without one, depth up to scale (until the focal length is
      given: see TransformersNetwork.predict).
    - prompt_depth_anything: without its prompt, a sparse depth map, its values are shares of a range that only the
      prompt tells: depth up to scale and shift, whatever depth_estimation_type is.
    - dpt: inverse depth up to scale and shift (MiDaS); with DINOv2 and a projection before the head it is one of
      DINOv2's depth estimators (NYU, KITTI): depth, in a unit that the configuration does not give.
    - any other: inverse depth up to scale and shift, which is what a network that says nothing mostly gives.
    """
    model_type = config.model_type
    metric = getattr(config, "depth_estimation_type", None) == "metric"
    if model_type in ("zoedepth", "glpn", "tipsv2_dpt") or (model_type == "depth_anything" and metric):
        return "depth", "metre"
    if model_type == "depth_pro":
        return "depth", "metre" if config.use_fov_model else "relative"
    if model_type == "prompt_depth_anything" or _is_dinov2_depther(config):
        return "depth", "relative"
    return "inverse", "relative"


_DESCRIBED = ("depth_anything", "depth_pro", "dpt", "glpn", "prompt_depth_anything", "tipsv2_dpt", "zoedepth")


def _is_dinov2_depther(config: Any) -> bool:
    backbone = getattr(config, "backbone_config", None)
    return (
        config.model_type == "dpt"
        and bool(getattr(config, "add_projection", False))
        and getattr(backbone, "model_type", None) == "dinov2"
    )


def _say_what_is_unknown(config: Any, name: str) -> None:
    model_type = config.model_type
    if model_type not in _DESCRIBED:
        logger.warning(
            "%s: nothing is known about models of type %s; its map is taken for relative inverse depth",
            name,
            model_type,
        )
    elif model_type == "prompt_depth_anything":
        logger.warning("%s: run without a depth prompt, it gives relative depth, not metres", name)
    elif model_type == "depth_pro" and not config.use_fov_model:
        logger.warning("%s: it knows no field of view; only with --focal-px are its depths metres", name)


def load_pretrained(folder: Path, name: str) -> Any:
    """The network alone, float32, on the CPU, in eval mode, without gradients. Arguments and errors as above."""
    transformers = import_transformers()
    _check_settings(folder, name)
    for path in _weight_files(folder, name):
        check_header(path)
    with _quiet(transformers):
        try:
            model, info = transformers.AutoModelForDepthEstimation.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # _check_names refuses them, by name
            )
        except Exception as error:  # it reports faults of the files in many ways
            raise CheckpointError(f"{name}: transformers cannot load it: {_summary(error)}") from error
    _check_names(info, name)
    model = model.float().eval().requires_grad_(False)
    for key, tensor in model.state_dict().items():
        check_values(name, key, tensor, (*FLOATING, *INTEGERS))
    return model


def _summary(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _check_settings(folder: Path, name: str) -> None:
    """Refuse what is no depth network, and what would make transformers ask the Hub for another repository."""
    settings = read_settings(folder, name)
    model_type = settings.get("model_type")
    known = _known_types()
    if model_type not in known:
        raise CheckpointError(
            f"{name}: transformers has no depth network of type {model_type!r}; it has " + ", ".join(known)
        )
    if model_type in _NO_DEPTH:
        raise CheckpointError(
            f"{name}: a network of type {model_type} gives {_NO_DEPTH[model_type]}, not depth"
        )
    if settings.get("backbone") is not None and settings.get("backbone_config") is None:
        raise CheckpointError(
            f"{name}: its config.json leaves the backbone's settings to another repository "
            f"({settings['backbone']!r}); it needs a backbone_config of its own"
        )


def _known_types() -> list[str]:
    auto = importlib.import_module("transformers.models.auto.modeling_auto")
    return sorted(auto.MODEL_FOR_DEPTH_ESTIMATION_MAPPING_NAMES)


def read_settings(folder: Path, name: str) -> dict[str, Any]:
    """The config.json of a folder. Raises CheckpointError."""
    return _read_json(folder / "config.json", name)


def _read_json(path: Path, name: str) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{name}: {path.name} cannot be read ({first_line(error)})") from error
    if not isinstance(settings, dict):
        raise CheckpointError(f"{name}: {path.name} holds a {type(settings).__name__}, not settings")
    return settings


def _weight_files(folder: Path, name: str) -> list[Path]:
    """model.safetensors, or the parts that its index names. Raises CheckpointError where there are none."""
    if (folder / _WEIGHTS).is_file():
        return [folder / _WEIGHTS]
    if not (folder / _INDEX).is_file():
        pickles = sorted(path.name for path in folder.glob("*.bin"))
        found = f"only {pickles[0]}, a pickle, which could run code" if pickles else "no weights"
        raise CheckpointError(f"{name}: holds {found}; prv2 reads {_WEIGHTS} alone")
    parts = _read_json(folder / _INDEX, name).get("weight_map")
    if not isinstance(parts, dict) or not parts or not all(isinstance(part, str) for part in parts.values()):
        raise CheckpointError(f"{name}: {_INDEX} names no files")
    paths = [folder / part for part in sorted(set(parts.values()))]
    for path in paths:
        # transformers would read any kind of file from anywhere.
        if path.parent != folder or path.suffix != ".safetensors" or not path.is_file():
            raise CheckpointError(
                f"{name}: {_INDEX} names {path.name}, which is not in the folder as safetensors"
            )
    return paths


def _check_names(info: dict[str, Any], name: str) -> None:
    missing = sorted(key for key in info["missing_keys"] if not _UNUSED.fullmatch(key))
    surplus = sorted(key for key in info["unexpected_keys"] if not _SURPLUS.fullmatch(key))
    misshapen = sorted(str(entry[0]) for entry in info["mismatched_keys"])
    if missing or surplus or misshapen:
        raise CheckpointError(
            f"{name}: the tensors do not fit its config.json: {len(missing)} missing {missing[:3]}, "
            f"{len(surplus)} surplus {surplus[:3]}, {len(misshapen)} of another shape {misshapen[:3]}"
        )


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without transformers' progress bars and load report: faults become errors of ours."""
    log = transformers.utils.logging
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    if bars:
        log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()


class TransformersNetwork:
    """A depth network of transformers with its own pre- and post-processing (a coarse_branch.CoarseNetwork)."""

    def __init__(
        self,
        module: Any,
        processor: Any,
        kind: Kind,
        unit: Unit,
        device: torch.device,
        name: str,
        identity: str,
    ) -> None:
        self.module, self.processor, self.device = module, processor, device
        self.model_type: str = module.config.model_type
        self.kind, self.unit = kind, unit
        self.name, self.identity = name, identity

    @torch.inference_mode()
    def predict(self, rgb: np.ndarray | DiskArray, focal_px: float | None = None) -> CoarseDepth:
        """What the network sees in an (H, W, 3) uint8 or uint16 photograph.

        Args:
            focal_px: focal length in pixels of the photograph. Depth Pro takes it in place of its own estimate; the
                others have no use for it.

        Returns:
            CoarseDepth: (1, 1, h, w) of the photograph's aspect, no larger than the photograph. Metres where the
            network says so; pixels where it gives none (not finite, not positive) are 0. Relative maps are raised to
            1 / RELATIVE_RANGE of their maximum.

        Raises:
            InputError: Depth Pro found no possible field of view and no focal length was given.
        """
        photograph: Size = (rgb.shape[0], rgb.shape[1])
        plan = plan_input(self.processor, photograph)
        inputs = self.processor(
            images=_pixels(rgb, plan.size),
            return_tensors="pt",
            input_data_format="channels_first",
            **plan.overrides,
        )
        # BEiT keeps an index for the whole process. Made in inference mode, it would forbid training from then on.
        with torch.inference_mode(False), torch.no_grad():
            outputs = self.module(pixel_values=inputs["pixel_values"].to(self.device))
        unit = self.unit
        if self.model_type == "depth_pro":
            unit = self._set_field_of_view(outputs, photograph[1], focal_px)
        values = self._to_aspect(outputs, plan.size, photograph)[None, None].float().cpu()
        values = torch.where(torch.isfinite(values) & (values > 0), values, 0)
        if unit == "relative" and self.model_type != "depth_pro":  # that one is positive, and not shifted
            values = values.clamp_min(values.max() / RELATIVE_RANGE)
        return CoarseDepth(values, self.kind, unit)

    def _set_field_of_view(self, outputs: Any, width: int, focal_px: float | None) -> Unit:
        """Let Depth Pro's post-processing use the given focal length; the unit that comes out.

        The network gives canonical inverse depth, for a focal length of one image width; the post-processing
        multiplies it by width / focal length, which it takes from the horizontal field of view in degrees.
        """
        if focal_px is not None:
            degrees = 2 * math.degrees(math.atan(0.5 * width / focal_px))
            outputs.field_of_view = torch.tensor([degrees], device=outputs.predicted_depth.device)
            return "metre"
        if outputs.field_of_view is not None:
            degrees = float(outputs.field_of_view[0])
            if not 0 < degrees < 180:
                raise InputError(
                    f"{self.name} takes the field of view of this photograph for {degrees:.0f} degrees, which cannot "
                    "be; give its focal length: --focal-px"
                )
        return self.unit

    def _to_aspect(self, outputs: Any, given: Size, photograph: Size) -> Tensor:
        """The processor's post-processing, to the photograph's aspect: (h, w)."""
        rows, columns = outputs.predicted_depth.shape[-2:]
        size = covering(photograph, (rows, columns))
        post_process = self.processor.post_process_depth_estimation
        if self.model_type == "zoedepth":  # it pads, and takes the padding off at the size it was given
            targets = None if size == given else [size]
            result = post_process(outputs, source_sizes=[given], target_sizes=targets)
        else:
            result = post_process(outputs, target_sizes=[size])
        depth: Tensor = result[0]["predicted_depth"]
        return depth.reshape(size)  # it drops sides of one pixel


@dataclass(frozen=True)
class InputPlan:
    """The size at which a processor gets a photograph, and settings of its own to replace in the call."""

    size: Size
    overrides: dict[str, Any]


def plan_input(processor: Any, photograph: Size) -> InputPlan:
    """How a photograph is handed to an image processor: never much larger than what the network will see.

    A photograph of up to REDUCTION times the network's input goes as it is; what transformers documents for the model
    happens then. Larger ones are reduced to that, with the aspect that the processor would see.
    """
    overrides: dict[str, Any] = (
        {"do_center_crop": False} if getattr(processor, "do_center_crop", None) else {}
    )
    nominal = _nominal_size(processor)
    if nominal is None:
        return InputPlan(_free_size(processor, photograph), overrides)
    target: tuple[float, float] = nominal
    if getattr(processor, "keep_aspect_ratio", False):
        scale = max(nominal[0] / photograph[0], nominal[1] / photograph[1])
        target = (scale * photograph[0], scale * photograph[1])
        if max(photograph) > MAX_ASPECT * min(photograph):
            target = _strip_size(photograph, nominal)
            size = {"height": target[0], "width": target[1]}
            overrides |= {"size": size, "keep_aspect_ratio": False}
    rows, columns = (
        max(MIN_SIDE, min(side, round(REDUCTION * wanted)))
        for side, wanted in zip(photograph, target, strict=True)
    )
    return InputPlan((rows, columns), overrides)


def _nominal_size(processor: Any) -> Size | None:
    """Height and width that a processor resizes to; None where it takes the image's own."""
    size = getattr(processor, "size", None)
    if not getattr(processor, "do_resize", False) or size is None:
        return None
    height, width, shortest = (_number(size, key) for key in ("height", "width", "shortest_edge"))
    if height and width:
        return height, width
    return (shortest, shortest) if shortest else None


def _number(settings: Any, key: str) -> int | None:
    """A setting of a processor; its sizes are dictionaries or objects, depending on transformers' version."""
    value = settings.get(key) if isinstance(settings, dict) else getattr(settings, key, None)
    return int(value) if value else None


def _strip_size(photograph: Size, nominal: Size) -> Size:
    """A size of a strip's aspect whose longer side is MAX_ASPECT times the nominal one."""
    longer = MAX_ASPECT * max(nominal)
    shorter = max(MIN_SIDE, round(longer * min(photograph) / max(photograph)))
    return (shorter, longer) if photograph[0] < photograph[1] else (longer, shorter)


def _free_size(processor: Any, photograph: Size) -> Size:
    """The size for a network that takes any: at most FREE_PIXELS, in multiples of what it needs.

    Processors fill up to the multiple with a border that their post-processing leaves in; so nothing is left to fill.
    """
    multiple = _number(processor, "size_divisor") or SIDE_MULTIPLE
    resizes = getattr(processor, "do_resize", False)  # GLPN's: down to its multiple
    if resizes and min(photograph) >= multiple and photograph[0] * photograph[1] <= FREE_PIXELS:
        return photograph
    scale = min(1.0, math.sqrt(FREE_PIXELS / (photograph[0] * photograph[1])))
    longest = MAX_ASPECT * math.sqrt(FREE_PIXELS)
    rows, columns = (max(1, round(min(scale * side, longest) / multiple)) * multiple for side in photograph)
    return rows, columns


def covering(photograph: Size, network: Size) -> Size:
    """The smallest size of the photograph's aspect that loses nothing of a network's map.

    It is no larger than the photograph, and of no more than four times the map's pixels.
    """
    (height, width), (rows, columns) = photograph, network
    needed = max(rows / height, columns / width)
    scale = min(1.0, needed, 2 * math.sqrt(rows * columns / (height * width)))
    if scale == 1:
        return photograph
    # The shorter side is rounded and the longer follows, or a strip's aspect would change.
    shorter = max(1, round(scale * min(photograph)))
    longer = round(shorter * max(photograph) / min(photograph))
    return (shorter, longer) if height <= width else (longer, shorter)


def _pixels(rgb: np.ndarray | DiskArray, size: Size) -> Tensor:
    """(3, *size) in 0..255, the range that processors expect: uint8 as it was, or float32 where reduced or 16-bit."""
    if isinstance(rgb, np.ndarray) and rgb.dtype == np.uint8 and rgb.shape[:2] == size:
        return torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))
    return shrink(rgb, size)[0] * 255
