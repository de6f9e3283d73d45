"""Several coarse networks on one data set, each alone and refined: is the refiner worth it behind each of them?

compare(names, measured)    measured(name) -> Report with the rows "coarse" and "refined"; one network after another
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from prv2cli.datasets.samples import left_out
from prv2cli.errors import Prv2Error
from prv2cli.evaluation.report import Report

logger = logging.getLogger("prv2cli")


@dataclass
class Comparison:
    """Network -> its report, in the order asked for. failed: network -> why it could not be measured."""

    reports: dict[str, Report] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every network was measured, on every image."""
        return not self.failed and not any(report.broken for report in self.reports.values())

    def to_json(self, *, per_image: bool = False) -> dict[str, Any]:
        """Ready for JSON."""
        reports = {name: report.to_json(per_image=per_image) for name, report in self.reports.items()}
        return {**self.about, "networks": reports, "failed": self.failed}


def compare(
    names: Iterable[str], measured: Callable[[str], Report], tell: Callable[[str], None] = logger.warning
) -> Comparison:
    """Measure one network after another; what one network fails of is told, and the others go on.

    Raises:
        Prv2Error: of the first network, where not one could be measured.
    """
    comparison = Comparison()
    errors = [_measure_one(name, measured, comparison, tell) for name in dict.fromkeys(names)]
    if not comparison.reports:
        raise next(error for error in errors if error is not None)
    return comparison


def _measure_one(
    name: str, measured: Callable[[str], Report], comparison: Comparison, tell: Callable[[str], None]
) -> Prv2Error | None:
    """Add one network to the comparison; what it fails of is told and given back."""
    try:
        comparison.reports[name] = measured(name)
    except Prv2Error as error:
        comparison.failed[name] = str(error)
        tell(left_out(name, error))
        return error
    return None
