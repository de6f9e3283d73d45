"""What a batch or a photograph is refused for before any work."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_refiner import FakeRefiner
from training_runs import BUNDLE

from prv2cli.coarse.load import _identity
from prv2cli.depth_files.ours.encoding import Encoding
from prv2cli.errors import InputError, OutputError, UsageError
from prv2cli.hub.resolve import ModelFile
from prv2cli.jobs.batch import BatchSettings
from prv2cli.jobs.claims import Claims
from prv2cli.jobs.engines.local import LocalEngine
from prv2cli.jobs.exports import check_outputs
from prv2cli.jobs.given import GivenMaps
from prv2cli.jobs.one_photo import FileJob, Outputs, check_turned
from prv2cli.model.config import BundleConfig
from prv2cli.refine.request import GivenDepth, RefineRequest, Tiling


def test_a_bundle_refines_no_given_maps() -> None:
    bundle, encoding = BundleConfig.model_validate(BUNDLE), Encoding("tiff")
    BatchSettings(encoding).check_model(bundle)
    with pytest.raises(UsageError, match="--coarse-depth: --model is a bundle"):
        BatchSettings(encoding, maps=GivenMaps()).check_model(bundle)
    with pytest.raises(UsageError, match="--tile 33: must be a multiple of"):
        BatchSettings(encoding, RefineRequest(Tiling((33, 33)))).check_model(bundle)


def test_a_coarse_network_too_large_for_the_memory(tmp_path: Path) -> None:
    refiner: Any = FakeRefiner()
    refiner.coarse_peak = 10**15
    with pytest.raises(InputError, match=r"needs 1000000\.0 GB of memory.* smaller network with --coarse"):
        LocalEngine(refiner, BatchSettings(Encoding("tiff")), Claims(tmp_path))


def test_a_preview_too_large_for_its_format() -> None:
    photo: Any = SimpleNamespace(rgb=np.zeros((1, 20_000, 3), np.uint8))
    job: Any = SimpleNamespace(outputs=SimpleNamespace(preview=Path("p.webp")), given=None)
    with pytest.raises(OutputError, match=r"p\.webp: 20000 x 1 is too large for WEBP; use \.png"):
        check_outputs(job, photo)
    job.outputs.preview = Path("p.png")
    check_outputs(job, photo)


def test_a_folder_is_another_network_when_it_reads_its_numbers_otherwise(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    seen = {_identity(ModelFile(tmp_path, "mine"))}
    for name in ("config.json", "preprocessor_config.json"):
        for text in ('{"max_depth": 20}', '{"max_depth": 80}'):
            (tmp_path / name).write_text(text)
            seen.add(_identity(ModelFile(tmp_path, "mine")))
    assert len(seen) == 5


def test_a_map_that_cannot_be_turned_over_unless_it_is_a_prompt() -> None:
    refiner, prompted = (SimpleNamespace(coarse=coarse) for coarse in (None, SimpleNamespace()))

    def check(
        by: Any, *, most: float = -1.0, inverse: bool = False, kind: Any = "inverse", unit: Any = "relative"
    ) -> None:
        given = GivenDepth(np.array([[-10.0, most], [np.nan, np.inf]]), kind, unit)
        outputs = Outputs(Path("d.tif"), Encoding("tiff", inverse=inverse))
        check_turned(FileJob(Path("a.png"), outputs, given=given), by)

    with pytest.raises(UsageError, match="add --inverse"):
        check(refiner)
    with pytest.raises(UsageError, match="leave out --inverse"):
        check(refiner, kind="depth", inverse=True)
    check(prompted)
    check(refiner, most=1)
    check(refiner, inverse=True)
    check(refiner, kind="depth")
    check(refiner, unit="metre")
