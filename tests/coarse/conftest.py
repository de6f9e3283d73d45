"""What the tests of this room share."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from depth_families import BUILDERS, Families, Published, publish

from prv2cli.coarse.transformers.network import TransformersNetwork


@pytest.fixture(scope="module")
def families(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], tuple[Published, TransformersNetwork]]:
    """Each family's network, published and loaded once."""
    made: dict[str, tuple[Published, TransformersNetwork]] = {}

    def get(family: str) -> tuple[Published, TransformersNetwork]:
        if family not in made:
            published = publish(BUILDERS[family](), tmp_path_factory.mktemp(family))
            made[family] = published, published.network()
        return made[family]

    return get


@pytest.fixture
def folder(families: Families, tmp_path: Path) -> Path:
    """A folder of a small published network, to be spoilt."""
    return Path(shutil.copytree(families("depth_anything_metric")[0].folder, tmp_path / "published"))
