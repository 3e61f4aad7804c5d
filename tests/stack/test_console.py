"""The console in a real browser, through the edge, as people use it: by mouse, by keyboard alone, in two windows."""

from __future__ import annotations

import json
import time
from uuid import uuid4

import pytest
from browser import CONTROL, SHIFT, WAIT_SECONDS, Browser, Window
from conftest import Stack
from console import ENTRIES, STATE, append, new_document, outages, sent, sign_in, visit
from installation import ask, containers, docker


@pytest.mark.requirement("WEB-02")
def test_what_one_window_appends_the_other_sees_live(browser: Browser, stack: Stack, user: Window) -> None:
    visit(user, "/", "Documents")
    title = f"Log {uuid4().hex[:8]}"
    user.click("input[name=title]")
    user.write(title)
    user.click("form button")
    user.wait(f"document.title === '{title} · Seawall'")
    user.wait_for_text(STATE, "Live")
    path = str(user.run("location.pathname"))
    other = browser.window()
    sign_in(other, stack.user, stack.password, path)
    other.wait_for_text(STATE, "Live")
    said = [f"{turn} from {name}" for turn in range(3) for name in ("one", "other")]
    for text in said:
        writing, looking = (user, other) if text.endswith("one") else (other, user)
        writing.click("textarea")
        writing.write(text)
        writing.click(".composer button")
        looking.wait(f"{ENTRIES}.includes({json.dumps(text)})")
        writing.wait(f"document.querySelector('textarea').value === '' && {ENTRIES}.includes({json.dumps(text)})")
    for each in (user, other):
        assert each.run(ENTRIES) == said
        assert each.run("document.querySelector('[data-version]').textContent") == "Version 7"
        assert len(each.heard("Network.webSocketCreated")) == 1, "live by other means than the socket"
    assert other.problems == []
    visit(user, "/", "Documents")
    deadline = time.monotonic() + WAIT_SECONDS
    while not user.heard("Network.webSocketClosed"):
        assert time.monotonic() < deadline, "a view that was left keeps its socket"
        time.sleep(0.05)
    other.close()


@pytest.mark.requirement("WEB-01")
def test_a_deep_link_survives_a_refresh_at_the_same_place(user: Window, session: dict[str, str]) -> None:
    path = new_document(session, "A long one", "\n".join(f"line {number}" for number in range(300)))
    visit(user, path, "A long one")
    user.wait_for_text(STATE, "Live")
    user.run("new Promise((resolve) => { addEventListener('scrollend', resolve, { once: true }); scrollTo(0, 1234); })")
    user.reload()
    user.wait_for_text(STATE, "Live")
    assert user.run("[location.pathname, document.title, scrollY]") == [path, "A long one · Seawall", 1234]


def tab_to(window: Window, name: str, modifiers: int = 0) -> None:
    """By the Tab key; wherever it stops on the way, the focus can be seen."""
    for _ in range(20):
        window.press("Tab", modifiers)
        found, outlined = window.run(
            "((at) => [at.labels?.[0]?.innerText || at.innerText, getComputedStyle(at).outlineStyle === 'solid'])"
            "(document.activeElement)"
        )
        if window.run("document.activeElement === document.body"):
            # Between the last stop and the first one, where the browser's own would be.
            continue
        assert outlined, f"nobody sees that the focus is at {found}"
        if found.strip().startswith(name):
            return
    raise AssertionError(f"the Tab key never gets to {name}")


def test_all_can_be_done_by_keyboard(window: Window, stack: Stack) -> None:
    window.open("/")
    window.wait("document.activeElement.name === 'username'")
    window.write(stack.user)
    tab_to(window, "Password")
    window.write(stack.password)
    window.press("Enter")
    window.wait("document.title === 'Documents · Seawall' && document.activeElement.id === 'main'")
    tab_to(window, "Title of the new document")
    window.write("By keyboard")
    window.press("Enter")
    window.wait("document.title === 'By keyboard · Seawall' && document.activeElement.id === 'main'")
    tab_to(window, "New entry")
    window.write("no mouse")
    window.press("Enter", CONTROL)
    window.wait(f"{ENTRIES}.join() === 'no mouse' && !document.querySelector('.composer button').disabled")
    assert window.run("document.activeElement.name") == "content"
    assert window.run("document.getElementById('news').textContent") == "Entry appended"
    window.run("document.activeElement.blur(), scrollTo(0, 0)")
    tab_to(window, "Skip to content")
    window.press("Enter")
    window.wait("document.activeElement.id === 'main'")
    tab_to(window, "← All documents")
    window.press("Enter")
    window.wait("document.title === 'Documents · Seawall'")
    tab_to(window, "Service", SHIFT)
    window.press("Enter")
    window.wait("document.title === 'Service · Seawall'")


@pytest.mark.requirement("WEB-02")
def test_a_refusal_is_shown_with_code_and_request_id(window: Window, stack: Stack) -> None:
    sign_in(window, stack.user, uuid4().hex)
    window.wait("!document.getElementById('failure').hidden")
    code, request = window.run("['code', 'request'].map((part) => document.getElementById(`failure-${part}`).textContent)")
    assert code == "unauthorized"
    assert f'"{request}"' in docker("logs", "--tail", "200", containers()["edge"]["Id"])
    outages(window)


def test_a_sign_out_ends_the_session_on_the_server(window: Window, stack: Stack) -> None:
    sign_in(window, stack.user, stack.password)
    token = window.wait("sessionStorage.getItem('seawall.refresh_token')")
    window.click("#sign-out")
    window.wait("document.title === 'Sign in · Seawall' && document.activeElement.name === 'username'")
    assert window.run("sessionStorage.length") == 0
    window.wait("performance.getEntriesByType('resource').some((entry) => entry.name.endsWith('/api/auth/logout'))")
    assert ask("/api/auth/refresh", "POST", {"refresh_token": token}).status == 401


def test_an_expired_token_is_replaced_and_the_tail_goes_on(window: Window, stack: Stack, session: dict[str, str]) -> None:
    """The server closes with 3000 after fifteen minutes; here the page is told so at once."""
    path = new_document(session, "For long")
    window.call(
        "Page.addScriptToEvaluateOnNewDocument",
        source="var sockets = []; WebSocket = class extends WebSocket { constructor(...a) { super(...a); sockets.push(this); } }",
    )
    sign_in(window, stack.user, stack.password, path)
    window.wait_for_text(STATE, "Live")
    refreshed = sent(window, "/api/auth/refresh")
    window.run("sockets[0].dispatchEvent(new CloseEvent('close', { code: 3000 })), sockets[0].close()")
    window.wait(f"sockets.length === 2 && document.querySelector({json.dumps(STATE)}).textContent === 'Live'")
    assert sent(window, "/api/auth/refresh") == refreshed + 1
    append(session, path.removeprefix("/documents/"), "after it")
    window.wait(f"{ENTRIES}.join() === 'after it'")
