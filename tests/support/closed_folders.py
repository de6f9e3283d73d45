"""Folders that may not be looked into, for those who are root too."""

from __future__ import annotations

import os

import pytest


def close_folder(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """From here on no folder whose path ends with `name` can be listed by os.scandir."""
    scandir = os.scandir

    def closed(path: str) -> object:
        if str(path).endswith(name):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
