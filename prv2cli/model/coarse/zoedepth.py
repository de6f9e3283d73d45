"""ZoeDepth (Bhat et al. 2023, arXiv 2302.12288): BEiT with a DPT decoder and metric bins, as transformers builds it.

    photograph ─ resized ─ BEiT, four intermediate layers ─ reassemble ─ project to strides 4, 8, 16, 32 ─┐
         ┌──────────────── fusion blocks, from the lowest level up: strides 16, 8, 4, 2 ──────────────────┘
         ├─ relative depth, and its last activation at the input's size ─┐
         └─ the bins' centres, moved level by level, and their shares ───┴─ metric depth

The features handed to the refiner are PatchRefiner's choice: the bottleneck (the lowest projected level through the
metric head's first convolution), the four fused levels and the last activation. Inside PatchRefiner the photograph is
neither padded nor flipped, unlike in transformers' image processor.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from prv2cli.errors import ConfigError, Prv2Error
from prv2cli.extras import import_transformers
from prv2cli.files.text import first_line
from prv2cli.model.coarse.output import CoarseOutput
from prv2cli.model.config import ZoeDepthConfig
from prv2cli.model.torchvision_ops import make_torchvision_importable

SIZE_MULTIPLE = 32  # the stride of the lowest level
OLDEST_TRANSFORMERS = (5, 9)
_MEAN = _STD = 0.5
_LEVELS = 4  # that are fused


class ZoeDepthCoarse(nn.Module):
    """(B, 3, h, w) RGB in 0..1, h and w multiples of 32 -> CoarseOutput in metres, six feature maps.

    Levels 0 to 5 have strides 1, 2, 4, 8, 16 and 32. Raises ConfigError for settings that are no such ZoeDepth, and
    MissingExtraError without transformers.
    """

    ENCODER = "network.backbone"  # the part with a rate of its own

    def __init__(self, config: ZoeDepthConfig) -> None:
        super().__init__()
        self.config = config
        self.network = _build(config.transformers)

    @property
    def channels(self) -> tuple[int, ...]:
        """Of the six feature maps, high resolution first."""
        settings = self.network.config
        fused = _LEVELS * (settings.fusion_hidden_size,)
        return (settings.num_relative_features, *fused, settings.bottleneck_features)

    def forward(self, rgb: Tensor) -> CoarseOutput:
        """The steps of transformers' own forward, one by one, because it returns no features.

        The parts are called rather than watched by hooks: those would keep the last photograph's features alive, and
        would be lost in copies and exports of the module.
        """
        height, width = rgb.shape[-2:]
        if height % SIZE_MULTIPLE or width % SIZE_MULTIPLE:
            raise ValueError(f"sides must be multiples of {SIZE_MULTIPLE}, not {height} x {width}")
        network = self.network
        rows, columns = height // network.patch_size, width // network.patch_size
        self._make_positions(rows, columns)
        tokens = network.backbone((rgb - _MEAN) / _STD).feature_maps
        fused, lowest = network.neck(tokens, rows, columns)
        relative, last = network.relative_head(fused)
        depth, _ = network.metric_head(
            outconv_activation=last, bottleneck=lowest, feature_blocks=fused, relative_depth=relative
        )
        bottleneck = network.metric_head.conv2(lowest)
        return CoarseOutput(depth, [last, *reversed(fused), bottleneck])

    def _make_positions(self, rows: int, columns: int) -> None:
        """Let BEiT make its index of relative positions, which it keeps for the whole process, as an ordinary tensor.

        Made in inference mode, it would forbid training at this size from then on.
        """
        with torch.inference_mode(False):
            for part in self.network.backbone.modules():
                if hasattr(part, "generate_relative_position_index"):
                    part.generate_relative_position_index((rows, columns))


def _build(settings: dict[str, Any]) -> Any:
    """transformers' network with fresh weights; nothing is downloaded. Raises ConfigError."""
    transformers = import_transformers()
    make_torchvision_importable()
    _check_version(transformers.__version__)
    if settings.get("model_type", "zoedepth") != "zoedepth":
        raise ConfigError(f"transformers.model_type must be zoedepth, not {settings['model_type']!r}")
    elsewhere = asks_elsewhere(settings)
    if elsewhere is not None:
        raise ConfigError(
            f"transformers.backbone names another repository ({elsewhere!r}); it needs a backbone_config of its own"
        )
    try:
        config = transformers.ZoeDepthConfig.from_dict(settings)
        network = transformers.ZoeDepthForDepthEstimation(config)
    except Prv2Error:
        raise
    except Exception as error:  # it checks settings in many ways
        raise ConfigError(
            f"transformers: its settings build no ZoeDepth ({first_line(error)[:300]})"
        ) from error
    # The six levels' strides follow from these.
    factors, widths = list(config.reassemble_factors), config.neck_hidden_sizes
    if network.patch_size != 16 or factors != [4, 2, 1, 0.5] or len(widths) != _LEVELS:
        raise ConfigError(
            f"transformers: patches must be of 16 pixels, reassemble_factors [4, 2, 1, 0.5] and neck_hidden_sizes "
            f"{_LEVELS} numbers, not {network.patch_size}, {factors} and {len(widths)}"
        )
    return network


def asks_elsewhere(settings: Mapping[str, Any]) -> str | None:
    """The model that transformers would ask the Hub for while it builds by these settings; None: it asks for nothing.

    timm's backbones are fetched by timm, which takes a name of the Hub whatever transformers is told about downloads.
    """
    backbone = settings.get("backbone")
    if settings.get("model_type") in ("timm_backbone", "timm_wrapper"):
        return str(backbone or settings.get("architecture"))
    if backbone is not None and settings.get("backbone_config") is None:
        return str(backbone)
    nested = (asks_elsewhere(value) for value in settings.values() if isinstance(value, Mapping))
    return next((found for found in nested if found is not None), None)


def _check_version(version: str) -> None:
    """Earlier versions have other names in their state dicts, so files of one would not load in the other."""
    found = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if found < OLDEST_TRANSFORMERS:
        oldest = ".".join(map(str, OLDEST_TRANSFORMERS))
        raise ConfigError(
            f"ZoeDepth as part of a model file needs transformers {oldest} or later, {version} is installed; "
            "upgrade it: pip install -U transformers"
        )
