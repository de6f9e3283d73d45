"""The one place that imports timm: its feature pyramids, and what it takes to import it quickly."""

from __future__ import annotations

import difflib
import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from prv2cli.errors import ConfigError
from prv2cli.model.torchvision_ops import make_torchvision_importable


def import_timm() -> ModuleType:
    """timm, importable whatever the torchvision build, and without the compiler that nothing here asks for."""
    with _dynamo_on_demand():
        make_torchvision_importable()
        import timm

    return timm


_DYNAMO = ("torch._dynamo", "torch._dynamo.utils")


class _OnDemand(ModuleType):
    """Stands in for a module of torch.compile's front end; whoever asks it for anything gets the real one."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what the import system itself looks for
            raise AttributeError(name)
        _give_way()
        return getattr(importlib.import_module(self.__name__), name)


@contextmanager
def _dynamo_on_demand() -> Iterator[None]:
    """Keep `import timm` from importing torch._dynamo: two seconds, for two functions that prv2 never calls.

    torchvision.ops.roi_align wants `is_compile_supported` when it is imported, one of timm's models `disable`. They
    get ones that load the compiler when they are called. The stand-ins are gone when the import is over.
    """
    if any(name in sys.modules for name in _DYNAMO):
        yield
        return
    for name in _DYNAMO:
        sys.modules[name] = _OnDemand(name)
    sys.modules[_DYNAMO[0]].__path__ = []  # a package, to the import system
    sys.modules[_DYNAMO[0]].disable = _disable  # type: ignore[attr-defined]
    sys.modules[_DYNAMO[1]].is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
    try:
        yield
    finally:
        _give_way()


def _give_way() -> None:
    """Take the stand-ins away."""
    for name in _DYNAMO:
        if isinstance(sys.modules.get(name), _OnDemand):
            del sys.modules[name]


def _disable(function: Callable[..., Any], recursive: bool = True, **options: Any) -> Callable[..., Any]:
    @functools.wraps(function)
    def outside_the_compiler(*arguments: Any, **keywords: Any) -> Any:
        real = importlib.import_module(_DYNAMO[0]).disable(function, recursive, **options)
        return real(*arguments, **keywords)

    return outside_the_compiler


def _is_compile_supported(device_type: str) -> bool:
    utils = importlib.import_module(_DYNAMO[1])
    return bool(utils.is_compile_supported(device_type))


def create_pyramid(name: str, key: str, **options: Any) -> Any:
    """A timm network (an nn.Module with `feature_info`) that returns its feature pyramid.

    Args:
        name: of the timm model, with or without a pretrained tag.
        key: of the setting that names it, for the error message.
        options: passed on to timm.create_model.

    Raises:
        ConfigError: timm has no such model, no such tag, or no feature pyramid for it.
    """
    timm = import_timm()
    if not timm.is_model(name):
        close = difflib.get_close_matches(name.partition(".")[0], timm.list_models(), n=1)
        hint = f"did you mean {close[0]!r}?" if close else "any name that timm.list_models() gives will do"
        raise ConfigError(f"{key}: timm has no model {name!r}; {hint}")
    try:
        return timm.create_model(name, features_only=True, **options)
    except RuntimeError as error:
        raise ConfigError(f"{key}: timm cannot build {name!r} as a feature pyramid: {error}") from error
