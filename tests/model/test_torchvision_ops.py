"""timm and transformers, whatever torchvision lies beside them."""

from __future__ import annotations

import pytest
from processes import told_by
from zoedepth_settings import SETTINGS

_WITHOUT_COMPILED_TORCHVISION = """
import json, sys
import torch

def refuse(path):
    raise OSError(f"{path}: undefined symbol")  # a torchvision that was compiled against another torch

torch.ops.load_library = refuse
"""

_TIMM = (
    _WITHOUT_COMPILED_TORCHVISION
    + """
from prv2cli.model.timm_pyramid import import_timm
from prv2cli.model.torchvision_ops import declare_missing_torchvision_ops
timm = import_timm()
network = timm.create_model("mobilenetv3_small_050", features_only=True).eval()
levels = network(torch.rand(1, 3, 32, 32))
json.dump([timm.__name__, len(levels), declare_missing_torchvision_ops()], sys.stdout)
"""
)


def test_timm_imports_beside_a_torchvision_that_does_not_load() -> None:
    assert told_by(_TIMM) == ["timm", 5, []]


_TRANSFORMERS = (
    _WITHOUT_COMPILED_TORCHVISION
    + f"""
from prv2cli.model.build import build_model
from prv2cli.model.config import ZoeDepthConfig
network = build_model(ZoeDepthConfig(transformers={SETTINGS!r}))
json.dump(network.channels, sys.stdout)
"""
)


def test_transformers_networks_build_beside_a_torchvision_that_does_not_load() -> None:
    pytest.importorskip("transformers")
    assert told_by(_TRANSFORMERS) == [6, 12, 12, 12, 12, 12]
