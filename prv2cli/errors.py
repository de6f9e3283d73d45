"""The exceptions a caller can catch. Raised everywhere, printed only by the command line.

    Prv2Error                 exit code 1
    ├── UsageError            exit code 2: the call itself is wrong (a flag, a combination, a missing unit)
    │   └── ConfigError       a configuration file or a key=value override
    ├── InputError            a file that cannot be read as what it should be
    ├── OutputError           a place that cannot be written to
    │   └── DiskFullError     no space is left there
    ├── CheckpointError       a model file that is unsafe, damaged or not what its header says
    ├── DeviceError           the requested device does not exist or does not have enough memory
    ├── EngineError           the cluster that should do a batch cannot be reached or cannot do it
    └── MissingExtraError     an optional dependency is not installed
        └── MissingEngineError    exit code 2: the one that the call is about

Every message is one or two lines: it names the file or the flag, says what is wrong, and what to do.
"""

from __future__ import annotations


class Prv2Error(Exception):
    """Base of every error that prv2 raises on purpose."""

    exit_code = 1


class UsageError(Prv2Error):
    """The call cannot work as it was made."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration key or value is wrong."""


class InputError(Prv2Error):
    """A file cannot be read as what it should be."""


class OutputError(Prv2Error):
    """An output cannot be written."""


class DiskFullError(OutputError):
    """No space is left where an output should go: what follows would fail as well."""


class CheckpointError(Prv2Error):
    """A checkpoint is unsafe, damaged, or does not match its own configuration."""


class DeviceError(Prv2Error):
    """The requested device is missing or too small."""


class EngineError(Prv2Error):
    """A cluster cannot be reached, or its workers cannot do the work."""


class MissingExtraError(Prv2Error):
    """An optional dependency is needed and not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs an optional dependency. Install it with: pip install 'prv2cli[{extra}]'"
        )
        self.what, self.extra = what, extra

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        return type(self), (self.what, self.extra)  # it travels between processes


class MissingEngineError(MissingExtraError):
    """The engine that was asked for is not installed."""

    exit_code = 2
