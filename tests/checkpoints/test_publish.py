"""Models given away and taken back: folders, and a Hub on loopback with the real client."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hub_uploads import UploadHub
from huggingface_hub import ModelCard
from huggingface_hub.errors import HTTPError

from prv2cli.checkpoints.model_file import Checkpoint, read_checkpoint
from prv2cli.checkpoints.publish import CARD_NAME, WEIGHTS_NAME, model_card, push_to_hub, save_pretrained
from prv2cli.errors import OutputError, Prv2Error, UsageError
from prv2cli.hub.resolve import resolve
from prv2cli.model.config import RefinerConfig

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return read_checkpoint(resolve("refiner-s").path)


def test_a_saved_model_is_the_model(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = save_pretrained(checkpoint, tmp_path / "new" / "folder", name="mine")
    assert sorted(p.name for p in path.parent.iterdir()) == sorted([CARD_NAME, WEIGHTS_NAME])
    again = read_checkpoint(path)
    assert again.config == checkpoint.config
    assert again.provenance == checkpoint.provenance
    assert again.stored.keys() == checkpoint.stored.keys()
    assert all(torch.equal(again.stored[name], tensor) for name, tensor in checkpoint.stored.items())


def test_a_card_says_what_the_header_says(checkpoint: Checkpoint) -> None:
    card = model_card(checkpoint, name="org/sharp", licence="apache-2.0")
    head, body = card.split("---\n")[1:3]
    assert "license: apache-2.0" in head
    assert "pipeline_tag: depth-estimation" in head
    assert "prv2 refine photo.jpg --model org/sharp" in body
    assert 'Refiner.from_pretrained("org/sharp")' in body
    settings = json.loads(card.split("## Configuration")[1].split("```json")[1].split("```")[0])
    assert RefinerConfig.model_validate(settings) == checkpoint.config
    assert checkpoint.provenance["software"] in body


@pytest.mark.parametrize("name", ["refiner-s", "lite"])
def test_the_embedded_models_have_cards_in_the_hub_format(name: str, tmp_path: Path) -> None:
    written = (ROOT / "weights" / f"{name}.md").read_text("utf-8")
    card = ModelCard(written)
    head = card.data.to_dict()
    assert (head["license"], head["library_name"]) == ("mit", "prv2cli")
    assert head["pipeline_tag"] == "depth-estimation"
    assert "depth-estimation" in head["tags"]
    assert card.text.lstrip().startswith(f"# {name}\n")
    checkpoint = read_checkpoint(resolve(name).path)
    for _ in range(2):  # its own card may be replaced
        save_pretrained(checkpoint, tmp_path, name="org/any")
    assert (tmp_path / CARD_NAME).read_text("utf-8").startswith(written)


def test_a_model_of_other_bytes_gets_a_card_of_its_own(checkpoint: Checkpoint, tmp_path: Path) -> None:
    other = dataclasses.replace(checkpoint, sha256="0" * 64)
    save_pretrained(other, tmp_path, name="org/sharper")
    card = ModelCard.load(tmp_path / CARD_NAME)
    assert card.data.to_dict()["pipeline_tag"] == "depth-estimation"
    assert "# org/sharper" in card.text


def test_a_folder_that_cannot_be_made_is_one_error(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        save_pretrained(checkpoint, tmp_path / "file" / "folder", name="mine")


@pytest.mark.parametrize("name", [CARD_NAME, WEIGHTS_NAME])
def test_files_of_others_are_kept(checkpoint: Checkpoint, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError, match=f"{name} is there"):
        save_pretrained(checkpoint, tmp_path, name="mine")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    (tmp_path / name).unlink()
    for _ in range(2):  # what is its own is replaced
        save_pretrained(checkpoint, tmp_path, name="mine")


@pytest.mark.parametrize("name", ["noslash", "a/b/c", ""])
def test_a_wrong_repository_name_is_refused_before_anything(checkpoint: Checkpoint, name: str) -> None:
    with pytest.raises(UsageError, match="org/name"):
        push_to_hub(checkpoint, name)


def test_a_hub_that_cannot_be_reached_is_one_line(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client's errors of the network are of no class of Python's own."""

    def down(*_: object, **__: object) -> None:
        raise HTTPError("no route")

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", down)
    with pytest.raises(Prv2Error, match="me/x: the Hub cannot be reached"):
        push_to_hub(checkpoint, "me/x")


_PUSH = """
import json, sys
import numpy as np
from prv2cli.refine.refiner import Refiner
from prv2cli.errors import Prv2Error
from prv2cli.checkpoints.model_file import read_checkpoint
from prv2cli.checkpoints.publish import push_to_hub
from prv2cli.hub.resolve import resolve
refiner = Refiner.from_pretrained("refiner-s", coarse="lite", device="cpu", precision="fp32")
try:
    commit = refiner.push_to_hub("someone/sharp")
    push_to_hub(read_checkpoint(resolve("lite").path), "someone/lite")
except Prv2Error as error:
    sys.exit(str(error))
rgb = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
coarse = np.linspace(1, 4, 96, dtype=np.float32)[None].repeat(64, 0)
again = Refiner.from_pretrained("someone/sharp", revision=commit, coarse=None, device="cpu", precision="fp32")
a, b = (r.refine(rgb, coarse_depth=coarse).depth for r in (refiner, again))
json.dump([commit, again.name, bool((a == b).all())], sys.stdout)
"""


def _push(server: UploadHub, cache: Path, token: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("HF_")},
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(cache),
        "HF_TOKEN": token,
        "HF_HUB_DISABLE_XET": "1",  # the server speaks the Hub's older protocol for large files
    }
    command = [sys.executable, "-W", "ignore", "-c", _PUSH]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


def test_a_pushed_model_comes_back_from_the_hub(tmp_path: Path) -> None:
    with UploadHub() as server:
        done = _push(server, tmp_path, server.write_token)
        assert done.returncode == 0, done.stderr
        commit, name, same = json.loads(done.stdout)
        files = server.repos["someone/sharp"].commits[commit]
        (lite,) = (files for files in server.repos["someone/lite"].commits.values() if files)
    assert (name, same) == ("someone/sharp", True)
    assert set(files) == {CARD_NAME, WEIGHTS_NAME}
    (tmp_path / "pushed.safetensors").write_bytes(files[WEIGHTS_NAME])
    assert read_checkpoint(tmp_path / "pushed.safetensors").config.kind == "refiner"
    for pushed, card in ((files, "refiner-s.md"), (lite, "lite.md")):
        assert pushed[CARD_NAME].startswith((ROOT / "weights" / card).read_bytes())


def test_a_push_without_the_right_token_says_how_to_log_in(tmp_path: Path) -> None:
    with UploadHub() as server:
        done = _push(server, tmp_path, "hf_reader")
        assert not server.repos
    assert done.returncode == 1
    message = done.stderr.strip()
    assert "hf auth login" in message
    assert "HF_TOKEN" in message
    assert len(message.splitlines()) == 1


def test_what_was_saved_is_found_by_its_folder(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = save_pretrained(checkpoint, tmp_path / "mine", name="mine")
    found = resolve(tmp_path / "mine")
    assert (found.path, found.name) == (path, "mine")
