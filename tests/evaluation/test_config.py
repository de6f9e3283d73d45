"""Configurations of `prv2 eval`."""

from __future__ import annotations

from pathlib import Path

import pytest
from depth_pairs import write

from prv2cli.errors import ConfigError
from prv2cli.evaluation.config import load_eval_config


def test_the_usual_measure_of_a_data_set_unless_said_otherwise(tmp_path: Path) -> None:
    path = write(tmp_path / "e.yaml", "data: {layout: kitti, root: /data}\nmeasure: {cap: [1, 50]}\n")
    config = load_eval_config(path, {"measure.align": "scale", "limit": 5})
    assert (config.measure.crop, config.measure.cap) == ("garg", (1, 50))
    assert (config.measure.align, config.limit) == ("scale", 5)
    plain = write(tmp_path / "c.yaml", "data: {layout: cityscapes, root: /data}\n")
    assert load_eval_config(plain).measure.cap == (1e-3, 250)
    assert load_eval_config(plain, {"measure.crop": "garg"}).measure.crop == "garg"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "data: {layout: kitti, root: x}\nmodle: y",
            r"e\.yaml: modle: no such setting; did you mean mode or model\?",
        ),
        ("data: {layout: kitti, root: x, splt: y}", r"e\.yaml: data\.splt: .*did you mean split\?"),
        ("data: {layout: kity, root: x}", r"e\.yaml: data: .*'kity'"),
        (
            "data: {layout: kitti, root: x}\nmeasure: {cap: [5, 1]}",
            r"e\.yaml: measure\.cap: expected two depths.*got \[5",
        ),
        ("data: {layout: kitti, root: x}\nmeasure: {crop: grg}", r"e\.yaml: measure\.crop: .*'garg'"),
        ("data: {layout: procedural, scenes: 0}", r"e\.yaml: data\.scenes: .*greater than 0"),
        ("data: {layout: kitti, root: x}\nmeasure: 3", r"e\.yaml: measure: "),
        ("model: x", r"e\.yaml: data: Field required"),
        ("[1", r"--config .*e\.yaml: not a readable YAML"),
        ("just words", r"--config .*e\.yaml: expected settings"),
    ],
)
def test_a_wrong_configuration_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    path = write(tmp_path / "e.yaml", content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_eval_config(path)
    assert "\n" not in str(caught.value)


def test_a_missing_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file"):
        load_eval_config(tmp_path / "none.yaml")
