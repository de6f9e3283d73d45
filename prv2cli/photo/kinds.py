"""Tell what a file is from its first bytes, and say it plainly when prv2 does not read it."""

from __future__ import annotations

import re
from pathlib import PurePath

# The kinds that are read, and the names by which their files are looked for in folders. One of another name is told of
# there (overlooked), and read where it is named itself: the content decides.
SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".pjpeg", ".pjp", ".mpo", ".jps"),
    "PNG": (".png", ".apng"),
    "WebP": (".webp",),
    "TIFF": (".tif", ".tiff", ".btf", ".tf8"),
    "BMP": (".bmp", ".dib"),
    "HEIC": (".heic", ".heif", ".hif", ".heics", ".heifs"),
    "AVIF": (".avif", ".avifs"),
}
PHOTO_SUFFIXES = frozenset(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
HEAD_BYTES = 4096  # enough for every signature and for a first look at text
SUPPORTED = "JPEG, PNG, WebP, TIFF, BMP, AVIF and, with the extra prv2cli[heif], HEIC"

_HEIC_BRANDS = {
    *(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"),
    *(b"mif1", b"msf1", b"heif"),
}
_AVIF_BRANDS = {b"avif", b"avis"}
_RAW_SUFFIXES = {
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".kdc", ".mef", ".mos"),
    *(".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
}
_RAW_SIGNATURES = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM")
_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two: BigTIFF

# First bytes -> what to call it, for files that are not read.
_OTHERS = (
    (b"GIF8", "a GIF"),
    (b"%PDF", "a PDF document"),
    (b"8BPS", "a Photoshop document"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (b"v/1\x01", "an OpenEXR picture"),
    (b"#?RADIANCE", "a Radiance HDR picture"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\0\0\1\0", "an icon"),
    (b"P5\n", "a PGM picture"),
    (b"P6\n", "a PPM picture"),
    (b"PF\n", "a PFM map"),
    (b"Pf\n", "a PFM map"),
    (b"PK\3\4", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"RIFF", "a RIFF (audio or video) file"),
    (b"\x1aE\xdf\xa3", "a video"),
)
# Of these, what can be a photograph all the same; an OpenEXR file is a rendering, as a rule, or a depth map.
_PICTURES = {"a GIF", "a Photoshop document", "a JPEG 2000 picture", "a JPEG XL picture", "a PPM picture"}


class Unreadable(Exception):
    """Why a picture is refused: one sentence or two, without the file's name (the reader adds it)."""


RAW_REFUSAL = (
    "this is a camera raw file, which needs developing first. "
    "Convert it to a 16-bit TIFF (Lightroom, darktable, RawTherapee, `dcraw -T -6`)"
)


def overlooked(head: bytes, label: str) -> str | None:
    """What a file is that its name does not make a photograph, as far as people would miss it; None of other files."""
    if not head:
        return None
    try:
        return f"{identify(head, label)} of an unusual name; name the file itself to have it done"
    except Unreadable as error:
        if str(error) == RAW_REFUSAL:
            return "camera raw, which needs developing first"
    what = next((what for signature, what in _OTHERS if head.startswith(signature)), "")
    return f"{what}, which prv2 does not read" if what in _PICTURES else None


def identify(head: bytes, label: str) -> str:
    """The kind, one of SUFFIXES, of a file that starts with `head`.

    The content decides; the extension of `label` is used only for camera raw files, most of which are TIFF
    files whose first picture is a small preview. Raises Unreadable, which says what the file looks like.
    """
    suffix = PurePath(label).suffix.lower()
    is_tiff = head.startswith(_TIFF_SIGNATURES)
    if head.startswith(_RAW_SIGNATURES) or (is_tiff and (head[8:10] == b"CR" or suffix in _RAW_SUFFIXES)):
        raise Unreadable(RAW_REFUSAL)
    if is_tiff:
        return "TIFF"
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WebP"
    if head.startswith(b"BM") and head[6:10] == b"\0\0\0\0":  # two letters alone would also match text
        return "BMP"
    if head[4:8] == b"ftyp":
        return _identify_ftyp(head)
    if suffix in _RAW_SUFFIXES:
        raise Unreadable(RAW_REFUSAL)
    raise Unreadable(_describe(head))


def _identify_ftyp(head: bytes) -> str:
    """Tell the members of the ISO media family (HEIC, AVIF, CR3, MP4) apart by their brands."""
    size = int.from_bytes(head[:4], "big")
    end = min(max(size, 16), len(head), 256)
    brands = {head[8:12], *(head[i : i + 4] for i in range(16, end - 3, 4))}
    if head[8:12] == b"crx ":
        raise Unreadable(RAW_REFUSAL)
    if brands & _AVIF_BRANDS:
        return "AVIF"
    if brands & _HEIC_BRANDS:
        return "HEIC"
    raise Unreadable(_refusal("a video"))


def _refusal(what: str, fix: str = f"Convert it to one of {SUPPORTED}") -> str:
    return f"not a photograph that prv2 reads: it is {what}. {fix}"


def _describe(head: bytes) -> str:
    """Why a file of no supported kind is refused."""
    for signature, what in _OTHERS:
        if head.startswith(signature):
            return _refusal(what)
    if not head.strip(b"\0"):
        return _refusal("all zero bytes", "Copy or download it again: it was not finished")
    text = _describe_text(head)
    return text or _refusal(
        "of an unknown kind", f"Check that it is the right file. Readable are {SUPPORTED}"
    )


def _describe_text(head: bytes) -> str | None:
    """Why text is refused; None where `head` is not text."""
    try:
        text = head.decode("utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8", errors="strict")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # a character cut at the end of `head` is still text
            return None
        text = head[: error.start].decode("utf-8", errors="replace")
    if re.search(r"[\0-\x08\x0e-\x1a\x1c-\x1f]", text):
        return None
    start = text.lstrip("\ufeff \t\r\n").lower()
    if "<svg" in start:
        return _refusal("an SVG drawing")
    if start.startswith(("<!doctype html", "<html")):
        return _refusal("a web page", "Download the picture itself, not the page that shows it")
    if start.startswith("version https://git-lfs"):
        return _refusal("a Git LFS pointer", "Run `git lfs pull` for the real file")
    return _refusal("text", f"Check that it is the right file. Readable are {SUPPORTED}")
