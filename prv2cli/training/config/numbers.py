"""Kinds of numbers in the settings of a training run."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from prv2cli.settings import PositiveInt

NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Size = tuple[PositiveInt, PositiveInt]  # rows, columns
Range = tuple[float, float]
