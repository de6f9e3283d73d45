"""Evaluation during a run: the model as it would be saved, measured as `prv2 eval` does (evaluation/measure.py)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from prv2cli.checkpoints.model_file import Checkpoint
from prv2cli.coarse.lite import at_its_word
from prv2cli.coarse.load import load_coarse, wrap
from prv2cli.coarse.network import CoarseNetwork
from prv2cli.datasets.layouts import open_data
from prv2cli.datasets.samples import DataSet
from prv2cli.evaluation.measure import with_boundaries
from prv2cli.evaluation.of_model import evaluate_model
from prv2cli.evaluation.report import METRICS, Report
from prv2cli.hub.resolve import resolve
from prv2cli.model.config import AnyModelConfig, BundleConfig, RefinerConfig
from prv2cli.model.layers import resize
from prv2cli.refine.asked import AskedRefiner
from prv2cli.refine.refiner import Refiner
from prv2cli.refine.request import RefineRequest, Tiling
from prv2cli.refine.tiles.authors import to_process
from prv2cli.refine.tiles.grid import to_pixels
from prv2cli.training.config.evaluation import EvaluationConfig
from prv2cli.training.config.run import TrainConfig
from prv2cli.training.stages.pretrain import predict_from_noise


@dataclass(frozen=True)
class _WholeDepth:
    """An Estimate of a network that gives one depth only."""

    depth: np.ndarray
    seam: float = 0.0
    unit: str = "metre"
    seen: np.ndarray | None = None

    @property
    def coarse(self) -> np.ndarray:
        return self.depth


class _Predictor:
    """A function from (H, W, 3) to (H, W) metres as a refiner."""

    bundle = None

    def __init__(self, predict: Callable[[np.ndarray], np.ndarray]) -> None:
        self._predict = predict

    def refine(self, rgb: np.ndarray, **known: Any) -> _WholeDepth:
        return _WholeDepth(self._predict(rgb))


class AnyEvaluator(Protocol):
    """Measures a model now and then; a lower score is better."""

    def due(self, step: int) -> bool: ...
    def measure(self, model: nn.Module) -> Any: ...
    def score(self, report: Any) -> float: ...


def make_evaluator(
    config: TrainConfig, trained: AnyModelConfig, device: torch.device, tell: Callable[[str], None]
) -> AnyEvaluator | None:
    """What the settings ask for: on a data set, on maps of an unseen network, or nothing. Raises as Evaluator."""
    if config.evaluation is not None:
        return Evaluator(config, trained, device, tell)
    if config.maps.validation:
        from prv2cli.training.unseen import UnseenMaps

        return UnseenMaps(config, device)
    return None


class Evaluator:
    """Measures a model every now and then. The data set is listed, and a coarse network loaded, at the start."""

    def __init__(
        self, config: TrainConfig, trained: AnyModelConfig, device: torch.device, tell: Callable[[str], None]
    ) -> None:
        """Raises UsageError, InputError for a data set that is not there; as resolve for the coarse network;
        MissingExtraError."""
        assert config.evaluation is not None
        self.config, self.trained, self.device, self._tell = config, trained, device, tell
        self._told: set[str] = set()
        self.settings: EvaluationConfig = config.evaluation
        with_boundaries(self.settings.measure)
        self.data: DataSet = open_data(self.settings.data)
        self._coarse: CoarseNetwork | None = None
        if isinstance(trained, RefinerConfig) and trained.coarse.kind == "given":
            self._coarse = at_its_word(load_coarse(resolve(self.settings.coarse), device))

    def due(self, step: int) -> bool:
        return step % self.settings.every == 0 or step == self.config.total_steps

    def measure(self, model: nn.Module) -> Report:
        """The figures of the model; it is left as it is."""
        tensors = {
            name: tensor.detach().cpu()
            for name, tensor in model.state_dict().items()
            if tensor.is_floating_point()
        }
        estimator = self._estimator(Checkpoint(self.trained, tensors, name="the model in training"))
        return evaluate_model(
            estimator,
            self.data,
            self.settings.measure,
            limit=self.settings.limit,
            tell=self._tell_once,
        )

    def _tell_once(self, line: str) -> None:
        """What is broken stays so: every evaluation of a run would say it again."""
        if line not in self._told:
            self._told.add(line)
            self._tell(line)

    def _estimator(self, checkpoint: Checkpoint) -> Any:
        config = checkpoint.config
        if isinstance(config, BundleConfig) or self._coarse is not None:
            precision = "bf16" if self.config.precision == "bf16" else "fp32"
            refiner = Refiner(checkpoint, self._coarse, device=str(self.device), precision=precision)
            return AskedRefiner(refiner, RefineRequest(Tiling(mode=self.settings.mode)))
        module = checkpoint.build().to(self.device).requires_grad_(False)
        if isinstance(config, RefinerConfig):
            return _Predictor(lambda rgb: self._from_noise(module, rgb))
        network = wrap(module, config, self.device, checkpoint.name, "")
        return _Predictor(lambda rgb: resize(network.predict(rgb).values, rgb.shape[:2], False)[0, 0].numpy())

    @torch.inference_mode()
    def _from_noise(self, module: nn.Module, rgb: np.ndarray) -> np.ndarray:
        image = to_process(to_pixels([rgb], self.device), self.config.process_size)
        depth = predict_from_noise(module, image, [self.config.seed])  # type: ignore[arg-type]
        return resize(depth.float().cpu(), rgb.shape[:2], True)[0, 0].numpy()

    def score(self, report: Report) -> float:
        """The figure that the best model has most or least of, so that lower is better; NaN if it was not measured."""
        value = report.means()["refined"].get(self.settings.best, math.nan)
        return -METRICS[self.settings.best].better * value
