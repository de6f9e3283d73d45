"""Foreign text in messages: on one line, and without the power to command a terminal. Any bytes can be in a name."""

from __future__ import annotations

import os
import re

_UNPRINTABLE = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def shown(name: object) -> str:
    r"""A path or another foreign text with line breaks, control codes and bytes that are no text escaped.

    The byte 0xff of a name that is not UTF-8 is shown as \xff.
    """
    text = os.fsdecode(name) if isinstance(name, os.PathLike | bytes) else str(name)
    return _UNPRINTABLE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte that is no text
        code -= 0xDC00
    return {9: r"\t", 10: r"\n", 13: r"\r"}.get(code, f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


def first_line(error: BaseException) -> str:
    """What an error says, without the stack traces that torch puts below."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
