"""A real browser for tests: headless Chromium, driven over a pair of pipes in its DevTools protocol."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

COMMAND = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WAIT_S = 60.0  # for anything at all: a loaded machine is slow, and nothing waits longer than it must
# No sandbox: it does not work for root, as whom containers run; the pages are the project's own.
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
           "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
           "--remote-debugging-pipe")  # fmt: skip


class Browser:
    """One page of a Chromium with a new profile in ``folder``. ``errors`` are what its console and network told."""

    def __init__(self, folder: Path, width: int = 1600, height: int = 1000) -> None:
        assert COMMAND, "Chromium must be installed"
        heard, say = os.pipe()
        listen, spoken = os.pipe()
        # Chromium reads its orders from descriptor 3 and answers on 4.
        shell = f'exec "$@" 3<&{heard} 4>&{spoken}'
        options = (*OPTIONS, f"--window-size={width},{height}", f"--user-data-dir={folder}")
        with (folder.parent / "chromium.log").open("w") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", shell, "browser", COMMAND, *options, "about:blank"],
                pass_fds=(heard, spoken), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        os.close(heard)
        os.close(spoken)
        self._say, self._listen, self._read, self._calls = say, listen, b"", 0
        self.errors: list[str] = []
        self._session = ""
        pages = self._call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in pages if target["type"] == "page")
        self._session = self._call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def open(self, url: str) -> None:
        """Loads ``url`` anew, even where only its fragment differs from the page that is open."""
        self._call("Page.navigate", url="about:blank")
        self._call("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        found = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, f"{script}: {found['exceptionDetails']}"
        return found["result"].get("value")

    def wait(self, script: str, holds: Callable[[Any], Any] = bool, timeout_s: float = WAIT_S) -> Any:
        """The value of ``script`` once it ``holds``."""
        deadline = time.monotonic() + timeout_s
        while not holds(value := self.run(script)):
            assert time.monotonic() < deadline, f"{script} is {value!r} after {timeout_s} s; errors: {self.errors}"
            time.sleep(0.2)
        return value

    def click(self, script: str) -> None:
        """Clicks with the mouse on the middle of the element that ``script`` finds, once it is there."""
        box = f"(e => e && (e.scrollIntoView({{block: 'center'}}), r = e.getBoundingClientRect(), \
            [r.x + r.width / 2, r.y + r.height / 2]))({script})"
        x, y = self.wait(box)
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def follow(self, script: str) -> None:
        """Clicks on a link that opens a tab of its own, and goes on in this one at the address of that."""
        before = {target["targetId"] for target in self._call("Target.getTargets")["targetInfos"]}
        self.click(script)
        deadline = time.monotonic() + WAIT_S
        while True:
            pages = self._call("Target.getTargets")["targetInfos"]
            made = [page for page in pages if page["targetId"] not in before and page["url"].startswith("http")]
            if made:
                break
            assert time.monotonic() < deadline, f"{script} opened no tab after {WAIT_S} s"
            time.sleep(0.2)
        self._call("Target.closeTarget", targetId=made[0]["targetId"])
        self.open(made[0]["url"])

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot")["data"]))

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(WAIT_S)
        os.close(self._say)
        os.close(self._listen)

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._calls += 1
        message = {"id": self._calls, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._say, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._calls:
            self._note(answer.get("method"), answer.get("params", {}))
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            ready, _, _ = select.select([self._listen], [], [], WAIT_S)
            assert ready, "Chromium does not answer"
            part = os.read(self._listen, 1 << 20)
            assert part, "Chromium ended"
            self._read += part
        message, self._read = self._read.split(b"\0", 1)
        return json.loads(message)

    def _note(self, event: str | None, params: dict[str, Any]) -> None:
        """Keeps what the console would show in red."""
        if event == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif event == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.errors.append(" ".join(str(a.get("value", a.get("description", ""))) for a in params["args"]))
        elif event == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
