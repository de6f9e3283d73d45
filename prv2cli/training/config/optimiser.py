"""Settings of what changes the weights."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from prv2cli.settings import NonNegative, Positive, Probability, Settings

Momentum = Annotated[float, Field(ge=0, lt=1)]


class OptimiserConfig(Settings):
    """The optimiser, its schedule, and the mean of the weights.

    kind: adamw; or muon: the momentum of matrices and convolutions made orthogonal (Jordan 2024), in steps as long as
        AdamW's (Liu et al. 2025), so that rates and weight decays are of the same size; AdamW with Nesterov's
        momentum for all else, depthwise convolutions included.
    lr: of everything that has no rate of its own. encoder_lr: of the pretrained encoder, coarse_lr: of a bundle's
        coarse network; None: lr; 0: frozen, BatchNorm's statistics included.
    frozen: what else is frozen, by the beginnings of the parameters' names.
    schedule: cosine: a linear warm-up and a cosine decay to 1/1000; plateau: a linear warm-up, the rate itself, and
        over the last `decay` of the run a line down to 1/1000; constant: the warm-up alone, for a run that another will
        end with a decay; one-cycle: from lr / div up to lr and down to lr / div / final_div, beta1 the other way
        between the two of `momentum`. warmup: share of the run.
    clip: largest norm of the gradient. ema: decay of the mean that is saved; 0 saves the weights themselves.
    """

    kind: Literal["adamw", "muon"] = "adamw"
    lr: Positive = 2.5e-3
    encoder_lr: NonNegative | None = None
    coarse_lr: NonNegative | None = None
    weight_decay: NonNegative = 1e-4
    coarse_weight_decay: NonNegative | None = None
    frozen: tuple[str, ...] = ()
    schedule: Literal["cosine", "plateau", "constant", "one-cycle"] = "cosine"
    warmup: Probability = 0.04
    decay: Probability = 0.25
    div: Annotated[float, Field(ge=1)] = 2.0
    final_div: Annotated[float, Field(ge=1)] = 100.0
    momentum: tuple[Momentum, Momentum] = (0.85, 0.95)
    clip: Positive = 1.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999

    @model_validator(mode="after")
    def _momentum_is_free(self) -> OptimiserConfig:
        if self.kind == "muon" and self.schedule == "one-cycle":
            raise ValueError(
                "schedule: one-cycle moves AdamW's beta1, which muon does not have; take another"
            )
        return self
