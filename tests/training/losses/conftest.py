"""Maps that every loss is tried on."""

from __future__ import annotations

import pytest
from golden_rules import Golden
from loss_cases import Case, Maps, random_maps


@pytest.fixture(params=[2, 4], ids=["seed2", "seed4"])
def case(request: pytest.FixtureRequest) -> Case:
    return Case(Golden.load(f"losses_s{request.param}"))


@pytest.fixture
def maps() -> Maps:
    """Prediction, truth (metres) and mask, (2, 1, 40, 50) each; a fifth invalid."""
    return random_maps()
