"""The maps of --coarse-depth, as files and flags name them: read as the refiner takes them.

a file, or the photograph itself ─ GivenMaps.read ─> GivenDepth
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from prv2cli.choices import Kind
from prv2cli.depth_files.given_map import Invalid, read_given, read_inside
from prv2cli.files.hashing import hash_file
from prv2cli.files.parts import file_and_part
from prv2cli.files.protected import identity
from prv2cli.photo.formats.quiet_pillow import quiet_pillow
from prv2cli.photo.opening import label_of, opened
from prv2cli.refine.request import GivenDepth


@dataclass(frozen=True)
class GivenMaps:
    """How given maps are to be read: the flags beside --coarse-depth.

    Attributes:
        scale, kind, relative, invalid: see given_map.read_given. stretched, keep_holes: see GivenDepth.
        embedded: they are in the photographs themselves. part: which array or channel the names of a batch's maps ask
            for.
    """

    scale: float | None = None
    kind: Kind | None = None
    relative: bool = False
    invalid: Invalid | None = None
    stretched: bool = False
    keep_holes: bool = False
    embedded: bool = False
    part: str | None = None

    def identity(self) -> dict[str, Any]:
        """What decides what is in an output, as JSON: the record of a batch knows it in this form."""
        known: dict[str, Any] = {
            "scale": self.scale,
            "kind": self.kind,
            "relative": self.relative,
            "invalid": self.invalid,
            "stretched": self.stretched,
            "keep_holes": self.keep_holes,
            "embedded": self.embedded,
        }
        # Only then: what was made of files with one map is as good as it was.
        return known if self.part is None else {**known, "part": self.part}

    def read(self, file: Path | None, photograph: Path | BinaryIO, label: str | None = None) -> GivenDepth:
        """The map in a file, or where there is none the one in the photograph, which messages call `label`.

        Raises:
            What given_map.read_given and read_inside raise, and photo.opening.opened of the photograph.
        """
        how: dict[str, Any] = {
            "scale": self.scale,
            "kind": self.kind,
            "relative": self.relative,
            "invalid": self.invalid,
        }
        digest = None if file is None else map_sha256(file)  # in the photograph: its own
        with quiet_pillow():
            if file is None:
                label = label or label_of(photograph)
                with opened(photograph, label) as stream:
                    found = read_inside(stream, label, **how)
            else:
                found = read_given(file, **how)
        given = GivenDepth(found.values, found.kind, found.unit, found.half_step)
        return replace(
            given,
            stretched=self.stretched,
            keep_holes=self.keep_holes,
            origin=found.origin,
            sha256=digest,
            notes=found.notes,
            focal=found.focal,
        )


def map_sha256(file: Path) -> str | None:
    """Of the file of a map; None of a pipe, and of one that is not there."""
    whole, _ = file_and_part(file)
    return None if identity(whole) is None else hash_file(whole)
