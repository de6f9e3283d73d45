"""Which channel of an EXR is its depth, by the names that renderers and compositors give it."""

from __future__ import annotations

from prv2cli.errors import InputError
from prv2cli.files.text import shown

_DEPTH = frozenset(("z", "depth"))
_NOT_ALONE = ("RY", "BY", "X", "Z")  # beside Y: colours, a vector
_LISTED = 12  # channels in a message


def choose_channels(parts: list[list[str]], name: str | None) -> tuple[int, list[str]]:
    """The part and its channels that hold the depth: one, or the three of a grey picture, which are to be equal.

    Args:
        parts: the names of the channels of each part of the file. name: the one that is asked for, if any.

    Raises:
        InputError: there is none, or several that could be it: all are named.
    """
    if name is not None:
        found = [(index, [name]) for index, names in enumerate(parts) if name in names]
        if not found:
            raise InputError(f"no channel {shown(name)!r} (found: {listed(parts)})")
        return found[0]
    every = [(index, channel) for index, names in enumerate(parts) for channel in names]
    if len(every) == 1:
        return every[0][0], [every[0][1]]
    depths = [(index, channel) for index, channel in every if _is_depth(channel, parts[index])]
    exact = [(index, channel) for index, channel in depths if channel == "Z"]
    if len(depths) == 1 or len(exact) == 1:
        index, channel = (exact or depths)[0]
        return index, [channel]
    if not depths:
        grey = [(index, three) for index, names in enumerate(parts) for three in _greys(names)]
        if len(grey) == 1:
            return grey[0]
    known = ", ".join(shown(channel) for _, channel in depths[:_LISTED])
    say = f"several may be depth ({known}); say which: FILE.exr:{shown(depths[0][1])}" if depths else ""
    raise InputError(
        f"channels {listed(parts)}: {say or 'one channel or one called Z is needed; or say which: FILE.exr:NAME'}"
    )


def listed(parts: list[list[str]]) -> str:
    """The names of all channels, for a message."""
    names = [shown(channel) for part in parts for channel in part]
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")


def _is_depth(channel: str, beside: list[str]) -> bool:
    """Z, depth, Layer.Z, Layer.depth; depth.V, depth.Y and the like, where the layer called depth has no other."""
    *layers, last = channel.lower().split(".")
    if last == "z" and channel[:-1] + ("X" if channel.endswith("Z") else "x") in beside:
        return False  # of a vector: normals, positions
    if last in _DEPTH:
        return True
    of_layer = [other for other in beside if other.rpartition(".")[0] == channel.rpartition(".")[0]]
    return bool(layers) and layers[-1] in _DEPTH and of_layer == [channel]


def _greys(names: list[str]) -> list[list[str]]:
    """Luminance Y alone, or R, G and B, of each layer of a part; depth's own layer, where one is called so."""
    found = {}
    for layer in dict.fromkeys(name.rpartition(".")[0] for name in names):
        start = f"{layer}." if layer else ""
        colours = {f"{start}{colour}" for colour in ("R", "G", "B")}
        if colours <= set(names):
            found[layer] = sorted(colours, reverse=True)
        elif f"{start}Y" in names and not {f"{start}{other}" for other in _NOT_ALONE} & set(names):
            found[layer] = [f"{start}Y"]
    of_depth = [three for layer, three in found.items() if layer.lower().rpartition(".")[2] in _DEPTH]
    return of_depth or list(found.values())
