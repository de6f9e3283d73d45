"""XMP, as far as depth needs it: the properties of a namespace, wherever in the packet and however they are written.

An XMP property can be an attribute or an element, alone, in a list or in a structure of several spellings. What belongs
together stands in one element, so `structures` gives each element's own.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from xml.etree import ElementTree

from prv2cli.errors import InputError

Properties = dict[str, str]  # local name -> value
MAX_BYTES = 1 << 27
_MAX_TAGS = 100_000  # a tree of more would take many times the packet's memory


def parse_packet(packet: bytes) -> ElementTree.Element:
    """The tree of a packet. Raises InputError for what is no XMP and for what no XMP has, such as entities."""
    if len(packet) > MAX_BYTES or packet.count(b"<") > _MAX_TAGS:
        raise InputError("its XMP data are larger than any that hold depth")
    try:
        text = packet.decode("utf-8").strip("\0 \t\r\n\ufeff")
        if "<!" in text.replace("<!--", "").replace("<![CDATA[", ""):
            raise InputError("its XMP data declare types or entities, which XMP does not have")
        return ElementTree.fromstring(text)
    except (UnicodeDecodeError, ElementTree.ParseError, ValueError) as error:
        raise InputError(f"its XMP data are damaged ({str(error)[:80]})") from error


def structures(roots: Iterable[ElementTree.Element], namespaces: Collection[str]) -> list[Properties]:
    """The properties of some namespaces, those of one element together, in their order; elements without are left out.

    A property whose value is a structure itself is none of these.
    """
    found = []
    for root in roots:
        for element in root.iter():
            values = {
                _local(name): value for name, value in element.attrib.items() if _space(name) in namespaces
            }
            values |= {
                _local(child.tag): (child.text or "").strip()
                for child in element
                if _space(child.tag) in namespaces and len(child) == 0 and (child.text or "").strip()
            }
            if values:
                found.append(values)
    return found


def merged(roots: Iterable[ElementTree.Element], namespace: str) -> Properties:
    """All the properties of a namespace that has one structure only; of those that come twice the first."""
    values: Properties = {}
    for structure in structures(roots, (namespace,)):
        values = {**structure, **values}
    return values


def number(values: Properties, name: str) -> float | None:
    """A property as a number, maybe infinite; None where there is none."""
    try:
        value = float(values[name])
    except (KeyError, ValueError):
        return None
    return None if math.isnan(value) else value


def _space(name: str) -> str:
    return name[1:].partition("}")[0] if name.startswith("{") else ""


def _local(name: str) -> str:
    return name.rpartition("}")[2]
