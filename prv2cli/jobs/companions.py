"""What lies beside each depth map of a batch: its confidence, its preview, its exports, by templates of its name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from prv2cli.depth_files.ours.encoding import Encoding, check_encoding, confidence_encoding
from prv2cli.depth_files.ours.preview import preview_format
from prv2cli.depth_files.ours.recognise import is_complete
from prv2cli.depth_files.read import read_depth_metadata
from prv2cli.errors import Prv2Error, UsageError
from prv2cli.export.targets import Target, check_extras, holds, is_ours, is_whole, written
from prv2cli.files.protected import Protected, place_key
from prv2cli.files.text import shown
from prv2cli.jobs.one_photo import Outputs

if TYPE_CHECKING:
    from prv2cli.depth_files.ours.metadata import DepthMetadata
    from prv2cli.jobs.batch import Job


@dataclass(frozen=True)
class Companions:
    """Templates of file names; {stem} is the depth map's."""

    confidence: str | None = None
    preview: str | None = None
    exports: tuple[Target, ...] = ()  # with templates as their names

    def check(self, encoding: Encoding, suffix: str) -> None:
        """Refuse what cannot work beside depth maps of this suffix. Raises UsageError, MissingExtraError."""
        if self.confidence is not None:
            check_encoding(confidence_encoding(Path(self.confidence), encoding.dtype))
        if self.preview is not None:
            preview_format(Path(self.preview))
        check_extras(self.exports)
        taken = {f"{{stem}}{suffix}": "the depth map itself"}
        exports = [(export.flag, str(path)) for export in self.exports for path in export.places]
        for flag, template in (("--confidence", self.confidence), ("--preview", self.preview), *exports):
            if template is None:
                continue
            if "{stem}" not in template:
                raise UsageError(
                    f"{flag} {shown(template)}: every photograph would have the same; use {{stem}} in it, as in "
                    f"{{stem}}_{shown(PurePath(template).name)}"
                )
            if PurePath(template).name != template:
                raise UsageError(f"{flag} {shown(template)}: it lies beside the depth map; name no folder")
            what = taken.get(template)
            if what is not None:
                raise UsageError(f"{flag} {shown(template)}: that is {what}; choose another name")
            taken[template] = f"the file of {flag}"

    def outputs(self, target: Path, encoding: Encoding) -> Outputs:
        """Everything that is written for one depth map."""
        confidence = self._beside(target, self.confidence)
        return Outputs(
            target,
            encoding,
            confidence,
            None if confidence is None else confidence_encoding(confidence, encoding.dtype),
            self._beside(target, self.preview),
            self._exports_beside(target),
        )

    def paths(self, target: Path) -> list[Path]:
        """Those of one depth map."""
        found = (self._beside(target, template) for template in (self.confidence, self.preview))
        exports = (path for export in self._exports_beside(target) for path in export.places)
        return [path for path in (*found, *exports) if path is not None]

    def are_done(self, target: Path, depth: DepthMetadata, *, verify: bool = False) -> bool:
        """Whether they were made with a finished depth map, of what it says, and are all there.

        From the same bytes, or not before it. verify: all the pixels of the confidence are decoded.
        """
        confidence, preview = self._beside(target, self.confidence), self._beside(target, self.preview)
        try:
            if confidence is not None:
                found = read_depth_metadata(confidence)
                if found is None or _made_from(found) != _made_from(depth):
                    return False
                if not is_complete(confidence, verify=verify):
                    return False
            since = target.stat().st_mtime_ns
            made: list[tuple[Path, str]] = [] if preview is None else [(preview, "preview")]
            made += [(path, one.kind) for one in self._exports_beside(target) for path in written(one)]
            return all(
                is_ours(path)
                and is_whole(path)
                and holds(path) in (None, kind)
                and path.stat().st_mtime_ns >= since
                for path, kind in made
            )
        except (Prv2Error, OSError):
            return False

    def _exports_beside(self, target: Path) -> tuple[Target, ...]:
        return tuple(
            replace(one, path=target.with_name(_named(str(one.path), target))) for one in self.exports
        )

    @staticmethod
    def _beside(target: Path, template: str | None) -> Path | None:
        return None if template is None else target.with_name(_named(template, target))


def _named(template: str, target: Path) -> str:
    return template.replace("{stem}", target.stem)


def _made_from(found: DepthMetadata) -> tuple[str | None, ...]:
    return found.settings_sha256, found.source_sha256, found.coarse_sha256


def without_clashes(
    jobs: Iterable[Job], companions: Companions, protected: Protected
) -> tuple[list[Job], list[tuple[Job, str]]]:
    """The jobs whose companions take nobody's place, and the others with what is to be said of them."""
    jobs = list(jobs)
    taken = {place_key(job.target) for job in jobs}
    kept, refused = [], []
    for job in jobs:
        why = None
        for path in companions.paths(job.target):
            key = place_key(path)
            what = protected.at(path) or ("that of another photograph" if key in taken else None)
            if what is not None:
                why = f"{shown(job.source)}: {shown(path)} would replace {what}; choose another name for it"
            taken.add(key)
        if why is None:
            kept.append(job)
        else:
            refused.append((job, why))
    return kept, refused
