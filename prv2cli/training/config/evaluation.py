"""Settings of measuring during a run."""

from __future__ import annotations

from typing import Any

from pydantic import model_validator

from prv2cli.datasets.layouts import DataConfig
from prv2cli.errors import UsageError
from prv2cli.evaluation.config import Measuring, with_usual_measure
from prv2cli.evaluation.report import METRICS
from prv2cli.settings import PositiveInt, Settings
from prv2cli.tiling.plan import parse_mode

_NEVER_MEASURED = ("matte_recall", "consistency_error")  # during a run: of mattes, and of overlapping tiles


class EvaluationConfig(Settings):
    """Measuring during the run: every so many steps and at its end, on a data set, as `prv2 eval` does.

    measure: left out: what the papers do on that data set. mode: the paper's tilings, as in `prv2 refine`.
    coarse: the coarse network of a refiner that has none. best: the figure by which best.safetensors is chosen.
    """

    data: DataConfig
    every: PositiveInt = 1000
    limit: PositiveInt | None = 20
    measure: Measuring = Measuring()
    mode: str | None = None
    coarse: str = "lite"
    best: str = "rmse"

    @model_validator(mode="before")
    @classmethod
    def _usual_measure(cls, raw: Any) -> Any:
        return with_usual_measure(raw)

    @model_validator(mode="after")
    def _best_is_a_figure(self) -> EvaluationConfig:
        ranked = [name for name, metric in METRICS.items() if metric.better and name not in _NEVER_MEASURED]
        if self.best not in ranked:
            raise ValueError(f"best: no figure is called {self.best!r}; there are {', '.join(ranked)}")
        return self

    @model_validator(mode="after")
    def _mode_is_a_tiling(self) -> EvaluationConfig:
        try:
            parse_mode(self.mode)
        except UsageError as error:
            raise ValueError(str(error).removeprefix("--")) from error
        return self
