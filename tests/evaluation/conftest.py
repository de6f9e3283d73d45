"""What the tests of this room share."""

from __future__ import annotations

import pytest
from golden_rules import Golden
from metric_cases import Case


@pytest.fixture(params=[2, 4], ids=["seed2", "seed4"])
def case(request: pytest.FixtureRequest) -> Case:
    return Case(Golden.load(f"losses_s{request.param}"))
