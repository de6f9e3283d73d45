"""Seconds and peaks of blocks whose cost is known."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest
import torch

from prv2cli.bench.meter import measured


def test_seconds() -> None:
    with measured(torch.device("cpu")) as spent:
        time.sleep(0.05)
    assert 0.05 <= spent.seconds < 5
    assert spent.device_peak == 0
    assert spent.processor < 0.05  # a pause is no work
    with measured(torch.device("cpu")) as spent:
        begun = time.process_time()
        while time.process_time() - begun < 0.1:
            pass
    assert 0.1 <= spent.processor < 1


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not say how much memory a process holds")
def test_a_peak_that_is_over_before_the_block_ends() -> None:
    with measured(torch.device("cpu")) as idle:
        time.sleep(0.02)
    with measured(torch.device("cpu")) as spent:
        array = np.ones(25_000_000)  # 200 MB
        time.sleep(0.05)
        del array
    assert spent.process_peak - idle.process_peak == pytest.approx(200e6, rel=0.2)


def test_a_block_that_fails_is_measured_too() -> None:
    with pytest.raises(RuntimeError, match="no"), measured(torch.device("cpu")) as spent:
        raise RuntimeError("no")
    assert spent.seconds > 0
