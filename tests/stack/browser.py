"""A headless Chromium in a container, driven by the DevTools protocol over the container's standard streams."""

from __future__ import annotations

import base64
import json
import os
import queue
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, Self

from content_hash import image_references
from image_builds import EPOCH, RECIPE
from installation import HTTPS_PORT, LABEL, PROJECT, REPOSITORY, ROOT, docker, images
from installation import URL as ORIGIN

ANSWER_SECONDS = 60
WAIT_SECONDS = 60
BUILD_SECONDS = 900
DIRECTORY = REPOSITORY / "tests/browser"
# Without capabilities and with nothing to write but memory, like everything else here.
OPTIONS = (
    *(LABEL, "--rm", "--interactive", "--init", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"),
    *("--tmpfs=/tmp:mode=1777,size=256m", "--env=HOME=/tmp/home", "--shm-size=256m", "--memory=1g", "--pids-limit=400"),
)
# A network namespace of its own: a browser ends its requests whenever the host's interfaces change, as engines make them do.
# So it meets the edge on the edge's network, under the address that everybody else has for it.
NETWORK = f"--network={PROJECT}_edge"
ADDRESS = f"--host-resolver-rules=MAP localhost:{HTTPS_PORT} edge:8443"
KEYS = {"Tab": 9, "Enter": 13, " ": 32}
CONTROL, SHIFT = 2, 8

# What the browser refuses on the policy's behalf is said to the page; here the page passes it on.
TELL_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy: ${event.effectiveDirective} forbids ${event.blockedURI || event.sample}`));
"""

Event = Mapping[str, Any]
# Whatever JSON the page's expression is.
Value = Any


class BrowserError(Exception):
    """The browser refused a command, or the page threw."""


def image() -> str:
    """The browser's image, on the same base as all others; built where it is missing."""
    definition = {"browser": {"context": str(DIRECTORY), "target": "", "exclude": []}}
    references = image_references(definition, RECIPE, EPOCH)
    if references["browser"] not in images():
        options = ("--builder=default", "--load", f"--build-arg=BASE={references['base']}", f"--tag={references['browser']}")
        command = ["docker", "buildx", "build", "--quiet", *options, str(DIRECTORY)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=BUILD_SECONDS)
    return references["browser"]


class Browser:
    """One process; each of its windows has a context, and so a session, of its own."""

    def __init__(self) -> None:
        name = f"seawall-test-browser-{time.time_ns()}"
        authority = f"--volume={ROOT}/tls/ca.pem:/run/ca.pem:ro"
        command = ["docker", "run", *OPTIONS, f"--name={name}", NETWORK, authority, image(), "seawall-browser", ADDRESS]
        self.name = name
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._numbers = count(1)
        self._writing = threading.Lock()
        self._answers: dict[int, queue.SimpleQueue[Any]] = defaultdict(queue.SimpleQueue)
        self._listeners: dict[str, Callable[[str, Event], None]] = {}
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """It ends with its input; what does not is removed."""
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            docker("rm", "--force", self.name, check=False)
            self._process.wait(20)

    def _read(self) -> None:
        assert self._process.stdout is not None
        rest = b""
        while chunk := os.read(self._process.stdout.fileno(), 1 << 20):
            *messages, rest = (rest + chunk).split(b"\0")
            for message in map(json.loads, messages):
                if "id" in message:
                    self._answers[message["id"]].put(message)
                elif listener := self._listeners.get(message.get("sessionId", "")):
                    listener(message["method"], message["params"])

    def post(self, method: str, session: str = "", **params: object) -> int:
        """Without waiting for the answer, as listeners must."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        assert self._process.stdin is not None
        with self._writing:
            self._process.stdin.write(json.dumps(message).encode() + b"\0")
            self._process.stdin.flush()
        return number

    def call(self, method: str, session: str = "", **params: object) -> dict[str, Any]:
        number = self.post(method, session, **params)
        try:
            answer = self._answers[number].get(timeout=ANSWER_SECONDS)
        except queue.Empty:
            raise BrowserError(f"no answer to {method}; its container says: {docker('logs', self.name, check=False)}") from None
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def window(self, width: int = 1200, height: int = 800, scheme: str = "light") -> Window:
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        window = Window(self, session, context)
        self._listeners[session] = window.hear
        for domain in ("Page", "Runtime", "Log", "Network"):
            window.call(f"{domain}.enable")
        window.call("Emulation.setScrollbarsHidden", hidden=True)
        window.call("Page.addScriptToEvaluateOnNewDocument", source=TELL_VIOLATIONS)
        window.resize(width, height)
        window.prefer(scheme)
        return window


class Window:
    """One page, what its console said, and what went over its wires."""

    def __init__(self, browser: Browser, session: str, context: str) -> None:
        self.browser = browser
        self.context = context
        self.problems: list[str] = []
        self.events: list[tuple[str, Event]] = []
        self._session = session
        self._replaced: dict[str, bytes] = {}

    def call(self, method: str, **params: object) -> dict[str, Any]:
        return self.browser.call(method, self._session, **params)

    def close(self) -> None:
        self.browser.call("Target.disposeBrowserContext", browserContextId=self.context)

    def hear(self, method: str, params: Event) -> None:
        self.events.append((method, params))
        if method == "Log.entryAdded" and params["entry"]["level"] in {"warning", "error"}:
            self.problems.append(f"{params['entry']['source']}: {params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Runtime.consoleAPICalled" and params["type"] in {"warning", "error", "assert"}:
            self.problems.append(" ".join(str(value.get("value")) for value in params["args"]))
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Fetch.requestPaused":
            self._answer(params)

    def heard(self, method: str) -> list[Event]:
        return [params for name, params in self.events if name == method]

    def replace(self, url: str, content: bytes) -> None:
        """What the network says at an address from now on, with the answer's real headers."""
        self._replaced[url] = content
        patterns = [{"urlPattern": address, "requestStage": "Response"} for address in self._replaced]
        self.call("Fetch.enable", patterns=patterns)

    def _answer(self, paused: Event) -> None:
        kept = [header for header in paused["responseHeaders"] if header["name"].lower() not in {"content-encoding", "etag"}]
        self.browser.post(
            "Fetch.fulfillRequest",
            self._session,
            requestId=paused["requestId"],
            responseCode=200,
            responseHeaders=kept,
            body=base64.b64encode(self._replaced[paused["request"]["url"]]).decode(),
        )

    def run(self, script: str) -> Value:
        """The value of an expression in the page, waited for where it is a promise."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise BrowserError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, script: str) -> Value:
        """Until an expression is true, also across pages."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            with suppress(BrowserError):
                if found := self.run(script):
                    return found
            if time.monotonic() > deadline:
                shown = self.run("location.pathname + ': ' + document.body?.innerText")
                raise AssertionError(f"waited in vain for {script}\nproblems: {self.problems}\n{shown}")
            time.sleep(0.05)

    def wait_for_text(self, selector: str, text: str) -> None:
        self.wait(f"document.querySelector({json.dumps(selector)})?.textContent.trim() === {json.dumps(text)}")

    def open(self, path: str) -> None:
        self.call("Page.navigate", url=f"{ORIGIN}{path}")
        self.wait(f"location.pathname === {json.dumps(path)} && document.readyState === 'complete'")

    def reload(self) -> None:
        self.run("window.before_reload = true")
        self.call("Page.reload")
        self.wait("!window.before_reload && document.readyState === 'complete'")

    def resize(self, width: int, height: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def prefer(self, scheme: str) -> None:
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def press(self, key: str, modifiers: int = 0) -> None:
        text = {"Enter": "\r", "Tab": ""}.get(key, key)
        code = KEYS.get(key, 0)
        shared = {"key": key, "modifiers": modifiers, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **shared)
        self.call("Input.dispatchKeyEvent", type="keyUp", **shared)

    def write(self, text: str) -> None:
        for character in text:
            self.press(character)

    def click(self, selector: str) -> None:
        """With the mouse, where the element is; what lies above it would get the click."""
        element = f"document.querySelector({json.dumps(selector)})"
        self.wait(f"!!{element}?.checkVisibility()")
        self.run(f"{element}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        x, y = self.run(f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({element}.getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path: Path) -> None:
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        taken = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(taken))
