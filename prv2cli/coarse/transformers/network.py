"""Depth networks of transformers as coarse networks: `--coarse hf:org/name` (extra `transformers`).

    folder ─ settings checked ─ safetensors only, every tensor accounted for ─ network and its image processor
    photograph ─ made small ─ processor ─ network ─ the processor's post-processing ─ made positive ─ CoarseDepth

What a network's numbers mean is read from its settings alone (`describe`). Whatever does not say that it gives metres
is never taken for metres.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prv2cli.choices import Kind, Unit
from prv2cli.coarse.aspect import covering
from prv2cli.coarse.network import RELATIVE_RANGE, CoarseDepth, CoarseNetwork, positive_depth
from prv2cli.coarse.transformers.files import load_pretrained
from prv2cli.coarse.transformers.input import InputPlan, Size, pixels, plan_input
from prv2cli.errors import CheckpointError, InputError
from prv2cli.extras import import_transformers
from prv2cli.files.disk_array import DiskArray
from prv2cli.files.pictures.field_of_view import field_of_view, focal_of_view
from prv2cli.files.text import first_line

logger = logging.getLogger("prv2cli")

_LEAST_RANGE = 1e-6  # of a prompt: as a share of its depth


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
    - chmv2: the height of trees in aerial photographs, in metres above the ground: what is higher is nearer to the
      camera, by how much nobody knows, so it is taken for inverse depth up to scale and shift.
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


_DESCRIBED = (
    "chmv2",
    "depth_anything",
    "depth_pro",
    "dpt",
    "glpn",
    "prompt_depth_anything",
    "tipsv2_dpt",
    "zoedepth",
)


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
    elif model_type == "chmv2":
        logger.warning(
            "%s: it gives the height of trees in aerial photographs; taken for relative inverse depth", name
        )
    elif model_type == "depth_pro" and not config.use_fov_model:
        logger.warning("%s: it knows no field of view; only with --focal-px are its depths metres", name)


class TransformersNetwork:
    """A depth network of transformers with its own pre- and post-processing (a network.CoarseNetwork)."""

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
        self._warned = False

    @property
    def takes_prompt(self) -> bool:
        """See network.PromptedNetwork."""
        return self.model_type == "prompt_depth_anything"

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
        if self.takes_prompt and not self._warned:
            logger.warning("%s: run without a depth prompt, it gives relative depth, not metres", self.name)
            self._warned = True
        photograph: Size = (rgb.shape[0], rgb.shape[1])
        plan = plan_input(self.processor, photograph)
        outputs = self._run(rgb, plan)
        unit, focal = self.unit, None
        if self.model_type == "depth_pro":
            unit = self._set_field_of_view(outputs, photograph[1], focal_px)
            focal = _focal_of(outputs, photograph[1]) if focal_px is None else None
        values = self._to_aspect(outputs, plan.size, photograph)
        if unit == "relative" and self.model_type != "depth_pro":  # that one is positive, and not shifted
            values = values.clamp_min(values.max() / RELATIVE_RANGE)
        return CoarseDepth(values, self.kind, unit, estimated_focal_px=focal)

    @torch.inference_mode()
    def predict_prompted(self, rgb: np.ndarray | DiskArray, prompt: CoarseDepth) -> CoarseDepth:
        """Depth of a photograph in the prompt's unit: a map of any size of its aspect, holes and all.

        The network takes the range of its answer from the prompt; so the holes are filled before. Pixels where it
        gives nothing positive are 0.
        """
        photograph: Size = (rgb.shape[0], rgb.shape[1])
        plan = plan_input(self.processor, photograph)
        depth = positive_depth(prompt)
        if depth.min() == depth.max():  # the network divides by the range; its processor does the same
            depth = depth.clone()
            depth[..., 0, 0] += _LEAST_RANGE * depth.max()
        outputs = self._run(rgb, plan, prompt_depth=depth.to(self.device))
        return CoarseDepth(self._to_aspect(outputs, plan.size, photograph), unit=prompt.unit)

    def _run(self, rgb: np.ndarray | DiskArray, plan: InputPlan, **more: Tensor) -> Any:
        """The network's own outputs for a photograph at the size of the plan."""
        inputs = self.processor(
            images=pixels(rgb, plan.size),
            return_tensors="pt",
            input_data_format="channels_first",
            **plan.overrides,
        )
        # BEiT keeps an index for the whole process. Made in inference mode, it would forbid training from then on.
        with torch.inference_mode(False), torch.no_grad():
            return self.module(pixel_values=inputs["pixel_values"].to(self.device), **more)

    def _set_field_of_view(self, outputs: Any, width: int, focal_px: float | None) -> Unit:
        """Let Depth Pro's post-processing use the given focal length; the unit that comes out.

        The network gives canonical inverse depth, for a focal length of one image width; the post-processing
        multiplies it by width / focal length, which it takes from the horizontal field of view in degrees.
        """
        if focal_px is not None:
            degrees = field_of_view(focal_px, width)
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
        """The processor's post-processing, to the photograph's aspect: (1, 1, h, w); 0 where it gives nothing."""
        rows, columns = outputs.predicted_depth.shape[-2:]
        size = covering(photograph, (rows, columns))
        post_process = self.processor.post_process_depth_estimation
        if self.model_type == "zoedepth":  # it pads, and takes the padding off at the size it was given
            targets = None if size == given else [size]
            result = post_process(outputs, source_sizes=[given], target_sizes=targets)
        else:
            result = post_process(outputs, target_sizes=[size])
        depth: Tensor = result[0]["predicted_depth"]
        values = depth.reshape(1, 1, *size).float().cpu()  # it drops sides of one pixel
        return torch.where(torch.isfinite(values) & (values > 0), values, 0)


def _focal_of(outputs: Any, width: int) -> float | None:
    """The focal length in pixels that Depth Pro's field of view stands for; None where it has none."""
    if outputs.field_of_view is None:
        return None
    return focal_of_view(float(outputs.field_of_view[0]), width)
