"""The words that options, settings and functions take, each set of them once, and nothing else: the command line reads
them before anything heavy is imported.
"""

from __future__ import annotations

from typing import Literal

Kind = Literal["depth", "inverse"]  # what a depth map holds
Unit = Literal["metre", "relative"]
FocalOrigin = Literal["given", "exif", "estimated"]  # by the user, the photograph, the coarse network
Dtype = Literal["uint16", "float32"]  # of a TIFF
Scene = Literal["indoor", "outdoor"]  # what a metric network was trained for
Tta = Literal["auto", "none", "flip"]  # whether the mirrored photograph is refined too
EMBEDDED = "embedded"  # of --coarse-depth: the map that the photograph itself brings
EngineName = Literal["local", "ray"]  # who does a batch
BenchNetwork = Literal["lite", "dav2-s", "moge2-s"]  # the coarse networks that `prv2 bench` knows

# How depth is measured: the part of an image that counts, and how a prediction is brought to the truth before.
Crop = Literal["garg", "eigen-kitti", "eigen-nyu"]
CropName = Literal["none", Crop]
Align = Literal["none", "scale", "scale-shift"]
AlignSpace = Literal["depth", "disparity"]
Resize = Literal["nearest", "bilinear"]

# What an authors' checkpoint holds.
Guidance = Literal["gated", "fused"]
Part = Literal["student", "teacher"]
