"""The models that prv2 knows by name: weights/registry.yaml, read and checked. No torch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from prv2cli.choices import Scene
from prv2cli.errors import CheckpointError, ConfigError
from prv2cli.files.text import shown
from prv2cli.hub.cache import Commit
from prv2cli.settings import PositiveInt, explain, read_settings_file

DEFAULT_REFINER = "refiner-s"
DEFAULT_COARSE = "lite"
REPO_LENGTH = 96  # the Hub's own limit
REPO = r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9_.-]+"

Text = Annotated[str, Field(pattern=r"^[ -~]{1,200}$")]


class Entry(BaseModel):
    """One registered model. `size` in bytes, `max_depth` in metres, `input_size` in pixels; None: not known.

    `licence` is what the model's card says, or "not stated"; `commercial` None: it does not say. `metric`: whether it
    gives metres (Depth Anything 3 with a focal length only).
    `repo` None: shipped with the package. `file` None: the repository as a folder. `revision` is a commit, and `sha256`
    that of the file at this commit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,60}$")]
    kind: Literal["coarse", "refiner", "bundle"]
    loader: Literal["prv2", "dav2", "moge2", "da3", "transformers"]
    repo: Annotated[str, Field(pattern=rf"^{REPO}$", max_length=REPO_LENGTH)] | None = None
    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,200}$")] | None = None
    revision: Commit | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    size: PositiveInt | None = None
    licence: Text
    commercial: bool | None = None
    metric: bool = True
    domain: Text
    scene: Scene | None = None
    max_depth: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    input_size: PositiveInt | None = None

    @model_validator(mode="after")
    def _can_be_checked(self) -> Entry:
        if self.repo is None and (self.file is None or self.sha256 is None):
            raise ValueError(f"{self.name} has no repo: a file of the package needs `file` and `sha256`")
        if self.repo is not None and self.sha256 is not None and (self.file is None or self.revision is None):
            raise ValueError(f"{self.name}: a sha256 holds for a `file` at a `revision`; name both")
        return self

    @property
    def embedded(self) -> bool:
        """Whether the model comes with the package."""
        return self.repo is None

    def suits_auto(self, scene: Scene | None) -> bool:
        """Whether `auto` may take it: a network that gives metres of any photograph and needs no extra.

        Without a scene, one whose licence allows commercial use. With one, a network made for it, unless it is known
        that not anyone may use it.
        """
        if scene is None:
            return self.loader == "moge2" and self.commercial is True
        return self.loader == "dav2" and self.scene == scene and self.commercial is not False


class _Registry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    models: list[Entry]

    @model_validator(mode="after")
    def _is_complete(self) -> _Registry:
        name, times = (
            Counter(entry.name for entry in self.models).most_common(1)[0] if self.models else ("", 0)
        )
        if times > 1:
            raise ValueError(f"{name} is there {times} times")
        embedded = {entry.name for entry in self.models if entry.embedded}
        if missing := {DEFAULT_REFINER, DEFAULT_COARSE} - embedded:
            raise ValueError(f"{', '.join(sorted(missing))} must be there, without a repo")
        for scene in (None, *get_args(Scene)):
            if not any(entry.suits_auto(scene) for entry in self.models):
                raise ValueError(f"no {scene or 'metric'} network that `auto` may take")
        return self


def read_registry(path: Path) -> dict[str, Entry]:
    """The models in a registry file by name, in its order: better ones first.

    Raises CheckpointError: the file is missing or damaged. It comes with the package, so only that can mend it.
    """
    try:
        raw: Any = read_settings_file(path)
        try:
            models = _Registry.model_validate(raw).models
        except ValidationError as error:
            raise explain(error, shown(path)) from error
    except ConfigError as error:
        reason = str(error).removeprefix("--config ")
        raise CheckpointError(f"{reason}; the installation is damaged, install prv2cli anew") from error
    return {entry.name: entry for entry in models}
