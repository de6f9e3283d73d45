"""timm is imported quickly."""

from __future__ import annotations

from processes import told_by

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
    assert told_by(_COMPILER_AFTER_TIMM) == [[], 4.0, 2.0, [1, 48]]
