"""The page as a file: whole, alone, and known again."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from pages import data_of, depth_values, values_of, write_case

from prv2cli.photo.read import read_photo
from prv2cli.view.assemble import assemble, is_page
from prv2cli.view.material import depth_layers, photo_layer


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    photo, *depths = write_case(tmp_path_factory.mktemp("case"))
    layer = photo_layer(read_photo(photo), 10**9)
    return assemble(layer, depth_layers(depths, layer, 10**9))


def test_the_numbers_in_the_page_are_those_of_the_files(page: bytes) -> None:
    fine, coarse = data_of(page)["depths"]
    assert np.array_equal(values_of(fine), depth_values(), equal_nan=True)
    steps = np.rint(depth_values(80, 120).astype(np.float64) * 1000)
    assert (coarse["bytes"], coarse["scale"]) == (2, 1000)
    assert np.array_equal(values_of(coarse), (steps / 1000).astype(np.float32), equal_nan=True)


def test_a_page_asks_nobody_for_anything(page: bytes) -> None:
    text = page.decode()
    assert "default-src 'none'" in text
    addresses = set(re.findall(r"[a-z]+://[^\s\"'<)]+", text))
    assert addresses == {"http://www.w3.org/2000/svg"}, "a name of XML, which nobody opens"
    assert not re.search(r"<(link|script|img|iframe)[^>]+(src|href)=(?!\"data:)", text)
    assert "{{" not in text.partition("<script")[0]


def test_names_cannot_leave_the_data(page: bytes) -> None:
    assert page.count(b"</script>") == 2
    assert data_of(page)["depths"][0]["model"].startswith("m </script>")


def test_a_page_is_known_again(page: bytes, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_bytes(page)
    assert is_page(path)
    path.write_bytes(b"<!doctype html><title>mine</title>")
    assert not is_page(path)
    assert not is_page(tmp_path)
    assert not is_page(tmp_path / "none.html")
