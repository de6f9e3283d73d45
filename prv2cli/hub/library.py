"""The Hub's client, which reads the environment when it is imported, and fails where that is wrong."""

from __future__ import annotations

from typing import Any

from prv2cli.errors import UsageError
from prv2cli.files.text import first_line, shown


def constants() -> Any:
    """huggingface_hub's constants. Raises UsageError for a variable of the environment that it cannot take."""
    try:
        from huggingface_hub import constants as found
    except ValueError as error:  # a number that is none
        raise UsageError(
            f"one of the variables HF_... of the environment cannot be what it is: {shown(first_line(error))}"
        ) from error
    return found
