"""Settings of the losses: against the truth, for detail in a transfer, and of a refiner behind any coarse map."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from prv2cli.settings import NonNegative, Positive, PositiveInt, Probability, Settings

Detail = Literal["ranking", "ssi", "ssigm", "ssigm-local", "gradient-matching"]


class LossConfig(Settings):
    """Weights of the losses against the truth, for every stage of a coarse network or a bundle (losses/truth.py).

    over: SILog over each image, then their mean; or over all pixels of a batch at once, as the authors do: then
        several processes are not the same as one with a larger batch.
    exact: gradient matching as in the authors' code, vertical only.
    """

    silog: NonNegative = 1.0
    gradient_matching: NonNegative = 0.0
    over: Literal["image", "batch"] = "image"
    exact: bool = False

    @model_validator(mode="after")
    def _something_is_asked_for(self) -> LossConfig:
        if self.silog == self.gradient_matching == 0:
            raise ValueError(
                "silog and gradient_matching are both 0: nothing would be learned from the truth"
            )
        if self.exact and self.gradient_matching == 0:
            raise ValueError(
                "exact is of gradient_matching, which is 0: give that a weight, or leave exact out"
            )
        return self


class TransferConfig(Settings):
    """The detail half of the synthetic-to-real transfer (DSD).

    teacher: a bundle trained on synthetic data (a file, a registered name or org/name), frozen, whose depth of each
        tile is the pseudo-label; or pseudo_labels: a folder of depth files named as the samples of the data set, with
        `suffix` at their ends, `scale` numbers per metre where they do not say.
    detail: one or more losses against the pseudo-label, added up; weight: of their sum.
    window: px, of ssigm-local. anchors: edge pixels per tile, and unit: metres that make one, of ranking.
    exact: gradient matching as in the authors' code, vertical only.
    """

    teacher: str | None = None
    pseudo_labels: Path | None = None
    suffix: str = ""
    scale: Positive | None = None
    detail: tuple[Detail, ...] = ("ssigm",)
    weight: NonNegative = 0.5
    window: PositiveInt = 64
    anchors: PositiveInt = 10_000
    unit: Positive = 1.0
    exact: bool = False

    @model_validator(mode="after")
    def _there_is_a_loss(self) -> TransferConfig:
        if not self.detail:
            raise ValueError("detail is empty; name ranking, ssi, ssigm, ssigm-local or gradient-matching")
        if self.exact and "gradient-matching" not in self.detail:
            raise ValueError(
                "exact is of gradient-matching, which detail does not name (the authors' ssigm counts both axes, too)"
            )
        return self


class RefineStageConfig(Settings):
    """The course of the training of a refiner behind any coarse map, in shares of the run.

    smooth_until: the loss is Huber's before, with the weights that are the defaults here, and L1 after, with those that
        are given; a start from trained weights needs no smooth phase.
    cascade_from: from then on a part of the tiles has been through the passes at reduced size (refine/refiner.py).
    hard_weight: how much more a pixel counts where the coarse map is wrong.
    drift_weight: of the error of local means (losses/residual.py).
    edge_weight: of the error near edges as a share of their height (losses/residual.py).
    """

    smooth_until: Probability = 0.25
    cascade_from: Probability = 0.5
    hard_weight: Annotated[float, Field(ge=0)] = 8.0
    drift_weight: Annotated[float, Field(ge=0)] = 0.0
    edge_weight: Annotated[float, Field(ge=0)] = 0.0
