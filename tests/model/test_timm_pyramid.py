"""timm, whatever torchvision lies beside it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def _told_by(program: str) -> Any:
    """The JSON that a Python program prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


_WITHOUT_COMPILED_TORCHVISION = """
import json, sys
import torch

def refuse(path):
    raise OSError(f"{path}: undefined symbol")  # a torchvision that was compiled against another torch

torch.ops.load_library = refuse
from prv2cli.model.timm_pyramid import declare_missing_torchvision_ops, import_timm
timm = import_timm()
network = timm.create_model("mobilenetv3_small_050", features_only=True).eval()
levels = network(torch.rand(1, 3, 32, 32))
json.dump([timm.__name__, len(levels), declare_missing_torchvision_ops()], sys.stdout)
"""


def test_timm_imports_beside_a_torchvision_that_does_not_load() -> None:
    assert _told_by(_WITHOUT_COMPILED_TORCHVISION) == ["timm", 5, []]


_COMPILER_AFTER_TIMM = """
import json, sys
from prv2cli.model.timm_pyramid import import_timm
timm = import_timm()
loaded = [name for name in sys.modules if name.startswith("torch._dynamo")]
import torch, torchvision
boxes = torch.tensor([[0, 0, 0, 4, 4.0]])
cut = torchvision.ops.roi_align(torch.ones(1, 1, 8, 8), boxes, 2)  # asks whether it may compile
double = torch.compile(lambda x: 2 * x, backend="eager")
model = timm.create_model("naflexvit_base_patch16_gap", num_classes=0, depth=1, embed_dim=48, num_heads=1)
tokens = model(torch.rand(1, 3, 32, 32))  # one of its functions is kept out of the compiler
json.dump([loaded, cut.sum().item(), double(torch.ones(1)).item(), list(tokens.shape)], sys.stdout)
"""


def test_timm_is_imported_without_the_compiler_which_works_afterwards() -> None:
    assert _told_by(_COMPILER_AFTER_TIMM) == [[], 4.0, 2.0, [1, 48]]
