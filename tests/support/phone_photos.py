"""Photographs that carry their depth, as phones write them: GDepth, Dynamic Depth, Apple's JPEG and HEIC."""

from __future__ import annotations

import base64
import hashlib
import io
import struct
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 64, 48
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
DD = "http://ns.google.com/photos/dd/1.0"
PIECE = 600  # bytes of extended XMP in a segment
APPLE: dict[str, Any] = {"AuxiliaryImageType": "disparity", "FloatMinValue": "0.5", "FloatMaxValue": "4.5"}


def levels(bits: int = 8) -> np.ndarray:
    """(24, 32) of all brightnesses, another in each corner."""
    ramp = np.linspace(0, 2**bits - 1, 24 * 32).reshape(24, 32)
    return np.rint(ramp).astype(np.uint8 if bits == 8 else np.uint16)


def encoded(pixels: np.ndarray, format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, **options)
    return file.getvalue()


def photograph(orientation: int = 1, format: str = "JPEG") -> bytes:
    """A JPEG of WIDTH x HEIGHT stored pixels."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[:, WIDTH // 2 :] = 200
    return encoded(pixels, format, exif=exif.tobytes())


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def with_segments(jpeg: bytes, *parts: bytes) -> bytes:
    return jpeg[:2] + b"".join(parts) + jpeg[2:]


def packet(inside: str, attributes: str = "") -> bytes:
    text = (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        f'<rdf:RDF xmlns:rdf="{RDF}"><rdf:Description rdf:about="" {attributes}>{inside}</rdf:Description></rdf:RDF>'
        '</x:xmpmeta><?xpacket end="w"?>'
    )
    return text.encode()


def xmp_segments(standard: bytes, extended: bytes | None = None) -> list[bytes]:
    """The APP1 segments of a packet and its extension, the pieces of the latter in no good order."""
    parts = [segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + standard)]
    if extended is not None:
        guid = hashlib.md5(extended).hexdigest().upper().encode()
        pieces = [
            segment(
                0xE1,
                b"http://ns.adobe.com/xmp/extension/\0"
                + guid
                + struct.pack(">II", len(extended), at)
                + extended[at : at + PIECE],
            )
            for at in range(0, len(extended), PIECE)
        ]
        parts += pieces[::-1]
    return parts


def gdepth(
    picture: bytes,
    *,
    orientation: int = 1,
    extended: bool = False,
    as_elements: bool = False,
    **properties: str,
) -> bytes:
    """A JPEG with GDepth; `properties`: Format, Near, Far, Units and so on."""
    space = 'xmlns:GDepth="http://ns.google.com/photos/1.0/depthmap/"'
    data = base64.b64encode(picture).decode()
    if as_elements:
        inside = "".join(f"<GDepth:{name}>{value}</GDepth:{name}>" for name, value in properties.items())
        return with_segments(
            photograph(orientation),
            *xmp_segments(packet(f"{inside}<GDepth:Data>{data}</GDepth:Data>", space)),
        )
    attributes = space + "".join(f' GDepth:{name}="{value}"' for name, value in properties.items())
    if not extended:
        return with_segments(
            photograph(orientation), *xmp_segments(packet("", f'{attributes} GDepth:Data="{data}"'))
        )
    second = packet("", f'{space} GDepth:Data="{data}"')
    guid = hashlib.md5(second).hexdigest().upper()
    note = f'xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="{guid}"'
    return with_segments(photograph(orientation), *xmp_segments(packet("", f"{attributes} {note}"), second))


def dynamic_depth(
    picture: bytes,
    *,
    orientation: int = 1,
    padding: int = 0,
    before: bytes = b"",
    trailer: bytes = b"",
    length: int | None = None,
    **properties: str,
) -> bytes:
    """A Dynamic Depth JPEG: the photograph, a confidence map before the depth map, what else follows."""
    items = [
        f'<Container:Item Item:Mime="image/jpeg" Item:Length="0" Item:Padding="{padding}" '
        'Item:DataURI="primary_image"/>',
        f'<Container:Item Item:Mime="image/png" Item:Length="{len(before)}" Item:DataURI="android/confidencemap"/>',
        f'<Container:Item Item:Mime="image/png" Item:Length="{len(picture) if length is None else length}" '
        'Item:DataURI="android/depthmap"/>',
    ]
    spaces = " ".join(
        f'xmlns:{name}="{DD}/{name.lower()}/"'
        for name in ("Device", "Container", "Item", "Camera", "DepthMap")
    )
    listed = "".join(f'<rdf:li rdf:parseType="Resource">{item}</rdf:li>' for item in items)
    about = " ".join(f'DepthMap:{name}="{value}"' for name, value in properties.items())
    inside = (
        f"<Device:Container><Container:Directory><rdf:Seq>{listed}</rdf:Seq></Container:Directory></Device:Container>"
        '<Device:Cameras><rdf:Seq><rdf:li rdf:parseType="Resource"><Device:Camera><Camera:DepthMap '
        f'DepthMap:ItemSemantic="Depth" DepthMap:DepthURI="android/depthmap" {about}/>'
        "</Device:Camera></rdf:li></rdf:Seq></Device:Cameras>"
    )
    first = with_segments(photograph(orientation), *xmp_segments(packet(inside, spaces)))
    return first + bytes(padding) + before + picture + trailer


def apple_xmp(**said: str) -> bytes:
    """What Apple says of an auxiliary picture."""
    spaces = 'xmlns:apdi="http://ns.apple.com/pixeldatainfo/1.0/" xmlns:depthData="http://ns.apple.com/depthData/1.0/"'
    inside = ""
    for name, value in said.items():
        space = "depthData" if name in ("Accuracy", "Filtered", "Quality") else "apdi"
        inside += f"<{space}:{name}>{value}</{space}:{name}>"
    return packet(inside, spaces)


def apple_jpeg(pixels: np.ndarray, *, orientation: int = 1, **said: str) -> bytes:
    """A JPEG with a gain map and a depth picture behind it, listed as MPF has it."""
    further = [
        with_segments(encoded(picture, "JPEG", quality=95), *xmp_segments(xmp))
        for picture, xmp in (
            (pixels[::-1], apple_xmp(AuxiliaryImageType="urn:com:apple:photo:2020:aux:hdrgainmap")),
            (pixels, apple_xmp(**(said or APPLE))),
        )
    ]
    first = photograph(orientation)
    size = len(segment(0xE2, _mpf([(0, 0)] * 3)))
    base = 2 + 4 + 4
    at = len(first) + size - base
    places = [(len(first) + size, 0), (len(further[0]), at), (len(further[1]), at + len(further[0]))]
    return with_segments(first, segment(0xE2, _mpf(places))) + b"".join(further)


def _mpf(pictures: list[tuple[int, int]]) -> bytes:
    entries = b"".join(struct.pack(">IIIHH", 0, size, offset, 0, 0) for size, offset in pictures)
    directory = struct.pack(">H", 2)
    directory += struct.pack(">HHII", 0xB001, 4, 1, len(pictures))
    directory += struct.pack(">HHII", 0xB002, 7, len(entries), 8 + 2 + 24 + 4)
    return b"MPF\0MM\0*" + struct.pack(">I", 8) + directory + struct.pack(">I", 0) + entries


# --- HEIC -------------------------------------------------------------------------------------------------


def heic(pixels: np.ndarray, *, orientation: int = 1, sei: bytes = b"", **said: str) -> bytes:
    """A HEIC photograph whose second picture is made its auxiliary depth picture.

    said: Apple's words of it, none if there are none. sei: HEVC's (see depth_sei).
    """
    import pillow_heif

    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    colours = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    colours[:, WIDTH // 2 :] = 200
    heif = pillow_heif.from_pillow(Image.fromarray(colours))
    heif[0].info["exif"] = exif.tobytes()
    heif.add_from_pillow(Image.fromarray(pixels))
    heif[1].info["exif"] = exif.tobytes()
    if said:
        heif[1].info["xmp"] = apple_xmp(**said)
    heif.save(file, quality=-1)
    return _as_auxiliary(file.getvalue(), sei)


def depth_sei(kind: int, low: float, high: float) -> bytes:
    """HEVC's depth representation information: 0 of 1/z, 1 disparity, 2 of z; between two numbers."""
    names = {0: "1100", 2: "1100", 1: "0011"}[kind]
    bits = names + _ue(kind) + ("" if kind != 1 else _ue(0)) + _element(low) + _element(high) + "1"
    bits += "0" * (-len(bits) % 8)
    payload = int(bits, 2).to_bytes(len(bits) // 8, "big")
    unit = bytes((0x4E, 0x01, 177, len(payload))) + payload + b"\x80"
    unit = struct.pack(">I", len(unit)) + unit
    return struct.pack(">I", len(unit)) + unit


def _ue(value: int) -> str:
    code = bin(value + 1)[2:]
    return "0" * (len(code) - 1) + code


def _element(value: float) -> str:
    mantissa, exponent = np.frexp(value)
    fraction = format(int((mantissa * 2 - 1) * 2**16), "016b")
    return f"0{exponent - 1 + 31:07b}{15:05b}{fraction}"


def _boxes(data: bytes, at: int, end: int) -> list[tuple[bytes, int, int]]:
    found = []
    while at < end:
        size = int.from_bytes(data[at : at + 4], "big")
        found.append((data[at + 4 : at + 8], at, at + size))
        at += size
    return found


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body) + 8) + kind + body


def _as_auxiliary(data: bytes, sei: bytes) -> bytes:
    """The second picture of a HEIC file declared to be depth of the first: a property of its own and a reference."""
    top = {kind: (at, end) for kind, at, end in _boxes(data, 0, len(data))}
    meta_at, meta_end = top[b"meta"]
    inside = _boxes(data, meta_at + 12, meta_end)
    iloc = next(data[at:end] for kind, at, end in inside if kind == b"iloc")
    first, second = _pictures(data, inside)
    old = meta_end - meta_at
    parts, referenced = b"", False
    for kind, at, end in inside:
        box = data[at:end]
        if kind == b"iprp":
            box = _box(b"iprp", _properties(data, at + 8, end, second, sei))
        elif kind == b"iref":
            box = _box(b"iref", data[at + 8 : end] + _box(b"auxl", struct.pack(">HHH", second, 1, first)))
            referenced = True
        parts += box
    if not referenced:
        parts += _box(b"iref", bytes(4) + _box(b"auxl", struct.pack(">HHH", second, 1, first)))
    grown = len(parts) + 12 - old
    parts = parts.replace(iloc, _moved(iloc, grown))
    return data[:meta_at] + _box(b"meta", bytes(4) + parts) + data[meta_end:]


def _pictures(data: bytes, inside: list[tuple[bytes, int, int]]) -> tuple[int, int]:
    at, end = next((at, end) for kind, at, end in inside if kind == b"iinf")
    entries = _boxes(data, at + 14, end)
    numbers = [
        int.from_bytes(data[start + 12 : start + 14], "big")
        for _, start, _ in entries
        if data[start + 16 : start + 20] == b"hvc1"
    ]
    return numbers[0], numbers[1]


def _properties(data: bytes, at: int, end: int, item: int, sei: bytes) -> bytes:
    made = b""
    count = 0
    for kind, start, stop in _boxes(data, at, end):
        if kind == b"ipco":
            count = len(_boxes(data, start + 8, stop)) + 1
            aux = _box(b"auxC", bytes(4) + b"urn:mpeg:hevc:2015:auxid:2\0" + sei)
            made += _box(b"ipco", data[start + 8 : stop] + aux)
        elif kind == b"ipma":
            made += _box(b"ipma", _associated(data[start + 8 : stop], item, count))
    return made


def _associated(ipma: bytes, item: int, index: int) -> bytes:
    assert ipma[:4] == bytes(4)
    (count,) = struct.unpack_from(">I", ipma, 4)
    at, made = 8, ipma[:8]
    for _ in range(count):
        number, length = struct.unpack_from(">HB", ipma, at)
        body = ipma[at + 3 : at + 3 + length]
        at += 3 + length
        if number == item:
            body += bytes((index,))
        made += struct.pack(">HB", number, len(body)) + body
    return made


def _moved(iloc: bytes, by: int) -> bytes:
    """The places of all items that lie in the file itself, moved."""
    version, sizes, others = iloc[8], iloc[12], iloc[13]
    assert version in (0, 1)
    assert (sizes, others) == (0x44, 0x40)
    out, at = bytearray(iloc), 16
    for _ in range(int.from_bytes(iloc[14:16], "big")):
        method = iloc[at + 3] & 15 if version else 0
        at += 10 if version else 8  # with a base
        extents = int.from_bytes(iloc[at : at + 2], "big")
        at += 2
        for _ in range(extents):
            if method == 0:
                place = int.from_bytes(iloc[at : at + 4], "big") + by
                out[at : at + 4] = place.to_bytes(4, "big")
            at += 8
    return bytes(out)
