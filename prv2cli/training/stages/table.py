"""The stages of training, one module each kind. The loop knows nothing of their insides.

given.py        refine     a refiner behind any coarse map, on spoilt depth of procedural scenes
end_to_end.py   refine     a bundle on random tiles;  transfer: with pseudo-labels
pretrain.py     noisy-pretrain
coarse.py       coarse
mixture.py      coarse     on photographs with depth of several kinds
"""

from __future__ import annotations

from prv2cli.training.config.run import TrainConfig
from prv2cli.training.stages.base import Batch, Stage, StepOutput
from prv2cli.training.stages.coarse import COARSE_ON_PHOTOGRAPHS, COARSE_ON_SCENES
from prv2cli.training.stages.end_to_end import END_TO_END, TRANSFER
from prv2cli.training.stages.given import REFINE_GIVEN
from prv2cli.training.stages.mixture import COARSE_ON_MIXTURE
from prv2cli.training.stages.pretrain import NOISY_PRETRAIN

__all__ = ["STAGES", "Batch", "Stage", "StepOutput", "stage_of"]

# By the name of the stage and whether its samples are made by samples/scenes.py.
STAGES: dict[tuple[str, bool], Stage] = {
    ("coarse", True): COARSE_ON_SCENES,
    ("coarse", False): COARSE_ON_PHOTOGRAPHS,
    ("noisy-pretrain", False): NOISY_PRETRAIN,
    ("refine", True): REFINE_GIVEN,
    ("refine", False): END_TO_END,
    ("transfer", False): TRANSFER,
}


def stage_of(config: TrainConfig) -> Stage:
    """The stage of a run."""
    if config.on_mixture:
        return COARSE_ON_MIXTURE
    return STAGES[config.stage, config.on_scenes_alone]
