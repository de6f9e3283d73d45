"""A headless Chromium that tests can look into, by its DevTools protocol over two pipes: no driver, no package.

with Chromium(program, folder) as browser:
    page = browser.open(path)
    page.mouse("mouseMoved", 10, 20);  page.value("document.title");  page.picture();  page.complaints
"""

from __future__ import annotations

import base64
import io
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PATIENCE = 20.0  # seconds
_FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--enable-unsafe-swiftshader",  # WebGL without a graphics card
    "--use-angle=swiftshader",
    "--disable-gpu-compositing",
    "--disable-accelerated-2d-canvas",
    "--force-device-scale-factor=1",
    "--hide-scrollbars",
)
# Chromium reads its commands from descriptor 3 and answers on 4.
_START = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(read, 3)
os.dup2(write, 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""


def find_chromium() -> str | None:
    """The program, where there is one: $CHROMIUM, or by its usual names."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class Chromium:
    """A browser with a profile of its own in `folder`."""

    def __init__(self, program: str, folder: Path, size: tuple[int, int] = (1280, 860)) -> None:
        ours, theirs = os.pipe(), os.pipe()
        root = (
            ("--no-sandbox",) if getattr(os, "geteuid", lambda: 1)() == 0 else ()
        )  # it refuses root otherwise
        size_flag = f"--window-size={size[0]},{size[1]}"
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", "-c", _START, str(ours[0]), str(theirs[1])),
                *(program, *_FLAGS, *root, size_flag, f"--user-data-dir={folder}", "about:blank"),
            ],
            pass_fds=(ours[0], theirs[1]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(ours[0])
        os.close(theirs[1])
        self._commands, self._answers = ours[1], theirs[0]
        self._read = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self.ask("Browser.close")
            self._process.wait(PATIENCE)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._commands)
        os.close(self._answers)

    def ask(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; what happened meanwhile goes to `events`."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._commands, data) :]
        while True:
            found = self._next()
            if found.get("id") != self._number:
                self.events.append(found)
                continue
            if "error" in found:
                raise RuntimeError(f"{method}: {found['error']['message']}")
            result: dict[str, Any] = found["result"]
            return result

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            if not select.select([self._answers], [], [], PATIENCE)[0]:
                raise TimeoutError("Chromium does not answer")
            piece = os.read(self._answers, 1 << 16)
            if not piece:
                raise ConnectionError("Chromium has ended")
            self._read += piece
        text, _, self._read = self._read.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    def open(self, path: Path, fragment: str = "", media: dict[str, Any] | None = None) -> Page:
        """A tab that loads a file. `media`: of Emulation.setEmulatedMedia."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session, target)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.ask(f"{domain}.enable")
        page.ask("Emulation.setEmulatedMedia", **(media or {}))
        page.ask("Page.navigate", url=path.as_uri() + fragment)
        return page


class Page:
    """One tab."""

    def __init__(self, browser: Chromium, session: str, target: str) -> None:
        self._browser, self._session, self._target = browser, session, target

    def close(self) -> None:
        self._browser.ask("Target.closeTarget", targetId=self._target)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command for this tab."""
        return self._browser.ask(method, self._session, **parameters)

    def value(self, expression: str) -> Any:
        """What JavaScript says, after the frame that is being drawn."""
        code = f"new Promise(requestAnimationFrame).then(() => ({expression}))"
        found = self.ask("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression}: {found['exceptionDetails']['exception'].get('description')}")
        return found["result"].get("value")

    def wait(self, expression: str) -> None:
        """Until JavaScript says true. Raises TimeoutError."""
        end = time.monotonic() + PATIENCE
        while not self.value(expression):
            if time.monotonic() > end:
                raise TimeoutError(f"never true: {expression}")
            time.sleep(0.05)

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """mousePressed, mouseMoved or mouseReleased, in CSS pixels."""
        self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, pointerType="mouse", **more)

    def drag(self, start: tuple[float, float], stop: tuple[float, float], **more: Any) -> None:
        """With the left button; by way of the middle."""
        middle = ((start[0] + stop[0]) / 2, (start[1] + stop[1]) / 2)
        self.mouse("mouseMoved", *start, **more)
        self.mouse("mousePressed", *start, button="left", buttons=1, clickCount=1, **more)
        for place in (middle, stop):
            self.mouse("mouseMoved", *place, button="left", buttons=1, **more)
        self.mouse("mouseReleased", *stop, button="left", clickCount=1, **more)

    def key(self, key: str, **more: Any) -> None:
        """Press and let go a key by its name in browsers."""
        text = {"text": key} if len(key) == 1 else {}
        self.ask("Input.dispatchKeyEvent", type="keyDown", key=key, **text, **more)
        self.ask("Input.dispatchKeyEvent", type="keyUp", key=key, **more)

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """Left, top, width, height of an element."""
        box = f"document.querySelector({selector!r}).getBoundingClientRect()"
        code = f"(({{x, y, width, height}}) => [x, y, width, height])({box})"
        left, top, width, height = self.value(code)
        return left, top, width, height

    def picture(self, selector: str | None = None) -> np.ndarray:
        """(H, W, 3) uint8: what is seen of the page, or of one element."""
        clip: dict[str, Any] = {}
        if selector is not None:
            x, y, width, height = self.box(selector)
            clip = {"clip": {"x": x, "y": y, "width": width, "height": height, "scale": 1}}
        data = self.ask("Page.captureScreenshot", format="png", **clip)["data"]
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            return np.asarray(image.convert("RGB"))

    @property
    def complaints(self) -> list[str]:
        """Errors and warnings of the console, what was thrown, and every address asked for that is not in a file."""
        found = []
        for event in self._events():
            about = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(about["exceptionDetails"]))
            elif event["method"] == "Runtime.consoleAPICalled":
                found.append(str(about["args"]))
            elif event["method"] == "Log.entryAdded" and about["entry"]["source"] != "rendering":
                found.append(about["entry"]["text"])  # rendering: that a screenshot makes the driver wait
            elif event["method"] == "Network.requestWillBeSent":
                url = about["request"]["url"]
                found += [] if url.startswith(("file:", "data:", "blob:")) else [url]
        return found

    def _events(self) -> list[dict[str, Any]]:
        return [event for event in self._browser.events if event.get("sessionId") == self._session]
