"""Small ZoeDepth networks in the layout of transformers: what their config.json holds."""

from __future__ import annotations

from typing import Any

BINS = {"n_bins": 8, "min_depth": 0.001, "max_depth": 10.0}
SETTINGS: dict[str, Any] = {
    "model_type": "zoedepth",
    "backbone_config": {
        "model_type": "beit",
        "image_size": 64,
        "hidden_size": 16,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "use_relative_position_bias": True,
        "reshape_hidden_states": False,
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    },
    "neck_hidden_sizes": [8, 8, 8, 8],
    "fusion_hidden_size": 12,
    "bottleneck_features": 12,
    "num_relative_features": 6,
    "bin_embedding_dim": 128,
    "num_attractors": [4, 2, 2, 1],
    "bin_configurations": [BINS],
}
# One head for indoor and one for outdoor scenes, chosen by a small transformer.
TWO_HEADS = {
    "num_attractors": [8, 8, 8, 8],  # here their number is that of the bins too
    "bin_configurations": [BINS | {"name": "nyu"}, BINS | {"name": "kitti", "max_depth": 80.0}],
    "num_patch_transformer_layers": 4,
    "patch_transformer_hidden_size": 128,
    "patch_transformer_intermediate_size": 16,
    "patch_transformer_num_attention_heads": 2,
}
