"""Debian's Chromium, driven over its DevTools protocol: what a person does and sees, and what the browser says of it."""

import base64
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-sync",
         "--mute-audio", "--disable-background-networking", "--disable-component-update", "--disable-extensions",
         "--hide-scrollbars", "--force-color-profile=srgb", "--remote-debugging-port=0", "--remote-allow-origins=*",
         "--disable-features=Translate"]
SHIFTS = """
window.shift = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
}).observe({type: "layout-shift", buffered: true});
"""
"""The sum of layout shifts that no input caused, as Chromium measures them."""
SETTLED = """
!document.querySelector(".waiting, [aria-busy], .cover:not([hidden])")
  && [...document.images].every((image) => image.complete || image.getBoundingClientRect().top > innerHeight)
  && new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))
"""
KEYS = {"Enter": (13, "\r"), "Escape": (27, ""), "ArrowLeft": (37, ""), "ArrowUp": (38, ""), "ArrowRight": (39, ""),
        "ArrowDown": (40, ""), "Tab": (9, "")}
"""The number that browsers give a key, and what it writes."""


class Tab:
    """One tab, from its first request on."""

    def __init__(self, socket: ClientConnection, *, width: int, height: int, dark: bool, phone: bool) -> None:
        self._socket, self._last = socket, 0
        self.problems: list[str] = []
        """What its console says in red."""
        self.requests: list[str] = []
        """The URL of every request."""
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.send(f"{domain}.enable")
        self.send("Page.addScriptToEvaluateOnNewDocument", source=SHIFTS)
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        if phone:
            self.send("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=2)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme, {"name": "prefers-reduced-motion", "value": "reduce"}])

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a command of the protocol; events that come before it are looked at."""
        self._last += 1
        self._socket.send(json.dumps({"id": self._last, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=60))
            if message.get("id") == self._last:
                assert "error" not in message, f"{method}: {message['error']}"
                return dict(message["result"])
            self._event(message.get("method", ""), message.get("params", {}))

    def _event(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert", "warning"):
            self.problems.append(" ".join(str(arg.get("value", arg.get("description"))) for arg in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])

    def js(self, expression: str) -> Any:
        """The value of an expression in the page, awaited."""
        answer = self._evaluated(expression)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def _evaluated(self, expression: str) -> dict[str, Any]:
        return self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)

    def until(self, expression: str, seconds: float = 20) -> Any:
        """The value of an expression as soon as it is true. Fails with what the page shows where it never is."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            answer = self._evaluated(expression)   # a page that is just being left may throw
            value = None if "exceptionDetails" in answer else answer["result"].get("value")
            if value or value == {}:   # an element comes as an empty object
                return value
            time.sleep(0.05)
        raise AssertionError(f"never true: {expression}\n{self.problems}\n{self.js('document.body.innerText')[:300]}")

    def open(self, url: str) -> None:
        """Opens an address and waits until the page's own code has drawn something."""
        self.send("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && !!document.querySelector('main > :not(noscript)')")

    def settled(self) -> None:
        """Waits until nothing is loading that can be seen."""
        self.until(SETTLED)

    def middle(self, selector: str) -> tuple[float, float]:
        """Where the first element of a selector is, scrolled into sight."""
        found = self.js(f"(() => {{ const e = document.querySelector({json.dumps(selector)}); if (!e) return null;"
                        "e.scrollIntoView({block: 'nearest'}); const r = e.getBoundingClientRect();"
                        "return [r.left + r.width / 2, r.top + r.height / 2]; })()")
        assert found, f"no element {selector}"
        return found[0], found[1]

    def click(self, selector: str) -> None:
        """A click by the mouse, on whatever lies there."""
        self.mouse(*self.middle(selector))

    def mouse(self, x: float, y: float, *further: tuple[float, float], shift: bool = False) -> None:
        """Press at (x, y), move through the further places, release."""
        how: dict[str, Any] = {"button": "left", "modifiers": 8 if shift else 0}
        last = (further or ((x, y),))[-1]
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        self.send("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, clickCount=1, **how)
        for place in further:
            self.send("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1], **how)
        self.send("Input.dispatchMouseEvent", type="mouseReleased", x=last[0], y=last[1], clickCount=1, **how)

    def press(self, key: str) -> None:
        """A key: one of KEYS, or a letter."""
        code, text = KEYS.get(key, (ord(key.upper()[0]), key))
        written = {"text": text} if text else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **written)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def write(self, text: str) -> None:
        """Text into the field that has the focus."""
        self.send("Input.insertText", text=text)

    def give(self, selector: str, file: Path) -> None:
        """A file into a file field."""
        document = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=document, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(file)])

    def close(self) -> None:
        """Closes it; its socket too, which would fill with what nobody reads."""
        self._socket.send(json.dumps({"id": 0, "method": "Page.close"}))
        self._socket.close()

    def shot(self, path: Path) -> None:
        """A picture of what can be seen."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def chromium() -> Iterator[Callable[..., Tab]]:
    """Opens tabs of a browser with a profile of its own, which ends with the block."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert browser, "these tests ask a real browser: apt-get install --no-install-recommends chromium"
    with ExitStack() as sockets, tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        command = [browser, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port, path = _address(Path(profile) / "DevToolsActivePort")

            def tab(width: int = 1360, height: int = 900, *, dark: bool = False, phone: bool = False) -> Tab:
                with connect(f"ws://127.0.0.1:{port}{path}", max_size=None, ping_interval=None, close_timeout=1) as control:
                    create = {"id": 1, "method": "Target.createTarget", "params": {"url": "about:blank"}}
                    control.send(json.dumps(create))
                    while (answer := json.loads(control.recv(timeout=30))).get("id") != 1:
                        pass
                page = f"ws://127.0.0.1:{port}/devtools/page/{answer['result']['targetId']}"
                socket = sockets.enter_context(connect(page, max_size=None, ping_interval=None, close_timeout=1))
                return Tab(socket, width=width, height=height, dark=dark, phone=phone)

            yield tab
        finally:
            sockets.close()
            process.terminate()
            process.wait(30)


def _address(file: Path) -> tuple[str, str]:
    """The port and the path that Chromium listens at, which it writes when it is up."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        lines = file.read_text().split() if file.is_file() else []
        if len(lines) == 2:
            return lines[0], lines[1]
        time.sleep(0.05)
    raise AssertionError("Chromium did not start within a minute")
