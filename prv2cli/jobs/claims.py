"""Who works on which output, for several processes on one folder: a small file for each output in the making.

A claim is made by creating its file, which only one process can do. Its owner touches it while it lives; a claim that
nobody has touched for a while belongs to a process that has died, and may be taken over. Claims save work and nothing
more: outputs are renamed into place whole, so two owners of one output would write the same file twice.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from prv2cli.files.atomic import is_running, machine, output_error

FOLDER = ".prv2-claims"
EXPIRES_SECONDS = 60.0
TOUCH_SECONDS = 10.0
ATTEMPTS = 10  # at making a claim while other processes end


class Claims:
    """The claims of this process below one output folder. Thread-safe."""

    def __init__(self, folder: Path, expires: float = EXPIRES_SECONDS) -> None:
        self.root, self.folder, self.expires = folder, folder / FOLDER, expires
        self._held: dict[Path, Path] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._keeper = threading.Thread(target=self._touch, name="claims", daemon=True)

    def acquire(self, target: Path) -> bool:
        """Claim an output; False where a living process has it. Raises OutputError where nothing can be written."""
        try:
            return self._acquire(target)
        except OSError as error:
            raise output_error(self.root, error) from error

    def _acquire(self, target: Path) -> bool:
        name = os.path.relpath(target, self.root)  # the same on every machine that shares the folder
        claim = self.folder / hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
        if not self._create(claim) and not (self._take_over(claim) and self._create(claim)):
            return False
        with self._lock:
            self._held[target] = claim
            if not self._keeper.is_alive() and not self._ended.is_set():
                self._keeper.start()
        return True

    def release(self, target: Path) -> None:
        """Give a claim back; nothing happens where there is none."""
        with self._lock:
            claim = self._held.pop(target, None)
        if claim is not None:
            claim.unlink(missing_ok=True)

    def release_all(self) -> None:
        """Give all back and remove the folder of claims when it is empty."""
        self._ended.set()
        for target in list(self._held):
            self.release(target)
        with suppress(OSError):
            self.folder.rmdir()

    def remove_dead(self) -> None:
        """Remove the claims of dead processes, for those that will not come back to take them over."""
        with suppress(OSError):
            for claim in list(self.folder.iterdir()):
                self._take_over(claim)

    def _create(self, claim: Path) -> bool:
        owner = {"host": machine(), "pid": os.getpid(), "since": time.time()}
        file = self._new_file(claim)
        if file is None:
            return False
        try:
            with file:
                json.dump(owner, file)
        except OSError:  # a full disk
            claim.unlink(missing_ok=True)
            raise
        return True

    def _new_file(self, claim: Path, attempts: int = ATTEMPTS) -> TextIO | None:
        """The claim's file, empty; None where there is one."""
        with suppress(FileExistsError):
            self.folder.mkdir(parents=True)
        try:
            return claim.open("x", encoding="utf-8")
        except FileExistsError:
            return None
        except FileNotFoundError:  # another process, at its end, has just removed the folder
            if attempts == 1:
                raise
        return self._new_file(claim, attempts - 1)

    def _take_over(self, claim: Path) -> bool:
        """Remove a dead process's claim."""
        if not self._is_dead(claim):
            return False
        aside = claim.with_name(f"{claim.name}.{secrets.token_hex(4)}")
        try:
            claim.rename(aside)  # of two that try, one succeeds
        except FileNotFoundError:
            return True
        if self._is_dead(aside):
            aside.unlink(missing_ok=True)
            return True
        with suppress(OSError):  # a third process had taken it over meanwhile: give it back
            os.link(aside, claim)
        aside.unlink(missing_ok=True)
        return False

    def _is_dead(self, claim: Path) -> bool:
        try:
            age = abs(time.time() - claim.stat().st_mtime)  # a time to come is no reason to wait for it
            return age > self.expires or _has_ended(claim.read_text(encoding="utf-8", errors="replace"))
        except FileNotFoundError:
            return True
        except OSError:  # not ours to read: it may live
            return False

    def _touch(self) -> None:
        while not self._ended.wait(TOUCH_SECONDS):
            with self._lock:
                claims = list(self._held.values())
            for claim in claims:
                with suppress(OSError):
                    os.utime(claim)


def _has_ended(owner: str) -> bool:
    """Whether a claim's owner ran on this machine and does not any more; False where it does not say."""
    try:
        process = json.loads(owner)
        return process["host"] == machine() and not is_running(int(process["pid"]))
    except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError):
        return False
