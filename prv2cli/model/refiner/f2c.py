"""F2C, the Fine-to-Coarse module: fuse coarse and denoised refiner features into one decoded map (docs/method.md 2.4).

per level k:  f = unit([c_k, r_k]);  f = unit([f, D_c, D_aux])        unit = Conv3x3, LN, GELU
upwards:      f = GELU(Conv(GELU(Conv([up(f_k+1), f_k, D_c, D_aux]))))
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from prv2cli.model.config import F2CConfig
from prv2cli.model.layers import Gelu, conv3x3, conv_norm_gelu, resize

DEPTHS = 2  # the coarse depth and C2F's auxiliary depth


class F2C(nn.Module):
    """The module. Channel lists run from level 0 (high resolution) to the lowest level.

    Attributes:
        channels: of the decoded map at level 0.
    """

    def __init__(
        self,
        config: F2CConfig,
        coarse_channels: Sequence[int],
        refiner_channels: Sequence[int],
        *,
        align_corners: bool,
    ) -> None:
        super().__init__()
        widths = config.widths
        self.align_corners = align_corners
        self.join_features = nn.ModuleList(
            conv_norm_gelu(coarse + refiner, width)
            for coarse, refiner, width in zip(coarse_channels, refiner_channels, widths, strict=True)
        )
        self.join_depths = nn.ModuleList(conv_norm_gelu(width + DEPTHS, width) for width in widths)
        self.decoder = nn.ModuleList()
        below = widths[-1]
        for k in range(len(widths) - 2, -1, -1):
            inputs, outputs = below + widths[k] + DEPTHS, config.decoder_widths[k]
            hidden = inputs if config.decoder_hidden == "input" else outputs
            self.decoder.append(
                nn.Sequential(
                    conv3x3(inputs, hidden, bias=False),
                    Gelu(),
                    conv3x3(hidden, outputs, bias=False),
                    Gelu(),
                )
            )
            below = outputs
        self.channels = below

    def forward(self, coarse: Sequence[Tensor], refiner: Sequence[Tensor], depths: Tensor) -> Tensor:
        """Coarse levels 0.. (resized here), refiner levels 0.., depths (B, 2, h, w) -> (B, channels, h, w)."""
        fused, scaled_depths = [], []
        for k, feature in enumerate(refiner):
            size = feature.shape[-2:]
            guide = resize(coarse[k], size, self.align_corners)
            scaled = resize(depths, size, self.align_corners)
            joined = self.join_features[k](torch.cat([guide, feature], dim=1))
            fused.append(self.join_depths[k](torch.cat([joined, scaled], dim=1)))
            scaled_depths.append(scaled)
        out = fused[-1]
        for stage, k in zip(self.decoder, range(len(fused) - 2, -1, -1), strict=True):
            up = resize(out, fused[k].shape[-2:], self.align_corners)
            out = stage(torch.cat([up, fused[k], scaled_depths[k]], dim=1))
        return out
