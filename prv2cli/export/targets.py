"""What goes where: the kind of an export by its name, the files that come with it, whose files lie there already."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prv2cli.depth_files.ours.metadata import SOFTWARE
from prv2cli.depth_files.ours.preview import PREVIEW_SUFFIXES
from prv2cli.depth_files.ours.recognise import is_by_prv2, picture_is_complete
from prv2cli.errors import OutputError, UsageError
from prv2cli.extras import import_openexr, import_plyfile, import_trimesh
from prv2cli.files.protected import identity
from prv2cli.files.text import shown

ExportKind = Literal["points", "mesh", "layers", "normals", "picture"]
KIND_OF: dict[str, ExportKind] = {".ply": "points", ".glb": "mesh", ".obj": "mesh", ".exr": "layers"}
PREFIXES: dict[str, tuple[str, ...]] = {"normals": (".png", ".exr"), "picture": (".png",)}
_HEAD = 1 << 14  # bytes
# Every export says near its beginning who made it; pictures and .exr files also what they hold, which their names do
# not tell. In an .exr more letters follow.
_HOLDS = re.compile(rf"{SOFTWARE} [\w.+-]+ (preview|picture|normals|layers)".encode())
_PLY_SIZES = {b"float": 4, b"uchar": 1}  # of the properties that points have


@dataclass(frozen=True)
class Target:
    """A file to be written; `flag`: as messages call it."""

    kind: ExportKind
    path: Path
    flag: str = "-o"

    @property
    def suffix(self) -> str:
        return self.path.suffix.lower()

    @property
    def needs_space(self) -> bool:
        """Whether it lies in space, which needs metres and a focal length: all but a picture for the eye."""
        return self.kind != "picture"

    @property
    def companions(self) -> tuple[Path, ...]:
        """The files of a textured .obj: its material and its texture."""
        if self.suffix != ".obj":
            return ()
        return self.path.with_suffix(".mtl"), self.path.with_name(f"{self.path.stem}_texture.jpg")

    @property
    def places(self) -> tuple[Path, ...]:
        """Every file that may be written."""
        return (self.path, *self.companions)


def parse_target(text: str, flag: str = "--export") -> Target:
    """FILE.ply, .glb, .obj or .exr; normals:FILE.png or .exr; picture:FILE.png. Raises UsageError."""
    prefix, colon, rest = text.partition(":")
    if colon and prefix == "normals":
        return named_target("normals", Path(rest), f"{flag} normals:")
    if colon and prefix == "picture":
        return named_target("picture", Path(rest), f"{flag} picture:")
    if Path(text).suffix.lower() == ".png":
        raise UsageError(f"{flag} {shown(text)}: say what of: picture:{shown(text)} or normals:{shown(text)}")
    return file_target(Path(text), flag)


def file_target(path: Path, flag: str) -> Target:
    """What a file is to hold, by its extension. Raises UsageError."""
    kind = KIND_OF.get(path.suffix.lower())
    if kind is None:
        raise UsageError(f"{flag} {shown(path)}: name a file that ends in {', '.join(KIND_OF)}")
    return Target(kind, path, flag)


def named_target(kind: Literal["normals", "picture"], path: Path, flag: str) -> Target:
    """A file of normals or a picture. Raises UsageError for another extension."""
    if path.suffix.lower() not in PREFIXES[kind]:
        raise UsageError(f"{flag} {shown(path)}: name a file that ends in {' or '.join(PREFIXES[kind])}")
    return Target(kind, path, flag)


def check_extras(targets: Iterable[Target]) -> None:
    """Find out before any work which library is missing. Raises MissingExtraError."""
    for target in targets:
        if target.kind == "points":
            import_plyfile()
        elif target.kind == "mesh":
            import_trimesh()
        elif target.suffix == ".exr":
            import_openexr()


def check_on_disk(targets: Iterable[Target]) -> None:
    """Refuse what is not written by bands, of a map that does not fit in memory. Raises UsageError."""
    for target in targets:
        if target.suffix == ".exr":
            raise UsageError(
                f"{target.flag} {shown(target.path)}: an .exr file is written from memory, and this photograph is too "
                "large for that; export .ply or .glb"
            )


def check_companions(targets: Iterable[Target]) -> None:
    """Names that nobody asked for replace prv2's own files alone. Raises OutputError."""
    for target in targets:
        for path in target.companions:
            if identity(path) is not None and not is_ours(path):
                raise OutputError(
                    f"{shown(path)}, which {shown(target.path)} would come with, is there and was not written by prv2; "
                    f"choose another name, or move it away"
                )


def is_ours(path: Path) -> bool:
    """Whether a regular file says that prv2 wrote it."""
    if is_by_prv2(path):
        return True
    return SOFTWARE.encode() in _head(path) and path.suffix.lower() in (*KIND_OF, ".mtl")


def holds(path: Path) -> str | None:
    """What a file by prv2 says that it is, "preview" or the kind of an export; None where it says nothing of it."""
    found = _HOLDS.search(_head(path))
    return found[1].decode() if found else None


def is_whole(path: Path) -> bool:
    """Whether all of an export or a preview is there, as far as its size and its end tell. Raises OSError."""
    suffix = path.suffix.lower()
    if suffix in PREVIEW_SUFFIXES:  # a texture's, too
        return picture_is_complete(path)
    if suffix == ".exr":
        return bool(import_openexr().InputFile(str(path)).isComplete())
    if suffix == ".glb":
        head = _head(path)[:12]
        return len(head) == 12 and struct.unpack_from("<I", head, 8)[0] == path.stat().st_size
    return suffix != ".ply" or _ply_bytes(_head(path)) == path.stat().st_size


def _ply_bytes(head: bytes) -> int:
    """The size of a .ply of points by its header; 0 where that is not all there."""
    header, end, _ = head.partition(b"end_header\n")
    count = size = 0
    for words in (line.split() for line in header.splitlines()):
        if words[:2] == [b"element", b"vertex"]:
            count = int(words[2])
        elif words[:1] == [b"property"]:
            size += _PLY_SIZES.get(words[1], 0)
    return len(header) + len(end) + count * size if end else 0


def written(target: Target) -> tuple[Path, ...]:
    """The files that belong to an export that is there: of an .obj with a texture three, else one."""
    return target.places if b"mtllib" in _head(target.path) else (target.path,)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD)
    except OSError:
        return b""
