"""Networks measured one after another."""

from __future__ import annotations

import pytest
from depth_pairs import PLAIN

from prv2cli.errors import InputError, Prv2Error
from prv2cli.evaluation.compare import compare
from prv2cli.evaluation.report import Report


def test_one_that_fails_does_not_stop_the_others() -> None:
    def measured(name: str) -> Report:
        if name == "broken":
            raise InputError("no such network")
        return Report(PLAIN, broken={"a": "gone"} if name == "half" else {})

    told: list[str] = []
    found = compare(["one", "broken", "two", "one"], measured, told.append)
    assert list(found.reports) == ["one", "two"]
    assert found.failed == {"broken": "no such network"}
    assert told == ["broken is left out: no such network"]
    assert not found.complete
    assert compare(["one"], measured).complete
    assert not compare(["half"], measured).complete
    with pytest.raises(Prv2Error, match="no such network"):
        compare(["broken", "broken"], measured, told.append)
