"""What people do in the console, and what a test asks of its pages."""

from __future__ import annotations

import json
import re

from browser import Window
from installation import URL, ask

ENTRIES = "[...document.querySelectorAll('.entries [data-content]')].map((entry) => entry.textContent)"
STATE = ".pill[data-state]"
# What a browser says by itself about an answer that is no success, and a socket that was refused.
OUTAGE = re.compile(r"^(network|javascript|other): (Failed to load resource|WebSocket connection)|WebSocket connection to")


def sign_in(window: Window, name: str, password: str, path: str = "/") -> None:
    """Fill in the form that stands before everything, at any address, and send it."""
    window.open(path)
    window.click("input[name=username]")
    window.write(name)
    window.click("input[name=password]")
    window.write(password)
    window.click("form button")


def visit(window: Window, path: str, title: str) -> None:
    """By a link, as within a session: a page that is loaded anew costs a refresh of its token."""
    window.run(
        f"(() => {{ const link = document.createElement('a'); link.href = {json.dumps(path)};"
        " document.getElementById('view').append(link); window.left = link; link.click(); })()"
    )
    # The view before may bear the same title, and takes the link with it when it goes.
    window.wait(f"!window.left.isConnected && document.title === {json.dumps(f'{title} · Seawall')}")


def new_document(session: dict[str, str], title: str, *entries: str) -> str:
    created = ask("/api/v1/documents", "POST", {"title": title}, session)
    assert created.status == 201, created
    for entry in entries:
        append(session, created.body["id"], entry)
    return f"/documents/{created.body['id']}"


def append(session: dict[str, str], document: str, content: str) -> None:
    assert ask(f"/api/v1/documents/{document}/entries", "POST", {"content": content}, session).status == 201


def outages(window: Window) -> None:
    """Takes away what an outage makes a browser say."""
    window.problems[:] = [problem for problem in window.problems if not OUTAGE.search(problem)]


def sent(window: Window, path: str) -> int:
    requests = [event["request"] for event in window.heard("Network.requestWillBeSent")]
    return len([request for request in requests if request["url"] == URL + path and request["method"] == "POST"])
