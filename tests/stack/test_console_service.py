"""The console's page of health, release and charts, and what it makes of a restart."""

from __future__ import annotations

import json
import re
import time
from uuid import uuid4

import pytest
from browser import WAIT_SECONDS, Browser, Value, Window
from conftest import Stack
from console import ENTRIES, STATE, append, new_document, outages, sign_in, visit
from installation import ask, containers, docker, in_charge


def rows(window: Window, chart: str) -> list[list[str]]:
    body = f"document.querySelector('[data-chart={chart}] tbody').rows"
    return list(window.run(f"[...{body}].map((row) => [...row.cells].map((cell) => cell.textContent))"))


def test_the_service_is_seen_at_a_glance(user: Window, session: dict[str, str]) -> None:
    visit(user, "/service", "Service")
    user.wait_for_text("[data-health]", "Answers")
    name = in_charge("api")
    assert user.run("document.querySelector('[data-release]').textContent") == containers()[name]["Config"]["Image"]
    assert "api-" + user.run("document.querySelector('[data-colour]').textContent") == name
    for number in range(10):
        assert ask("/api/v1/documents" if number else f"/api/v1/documents/{uuid4()}", headers=session).status in {200, 404}
    cells = "[...document.querySelectorAll('[data-chart={}] tbody td:nth-child({})')]"
    for chart, column in (("rate", 2), ("rate", 3), ("latency", 2), ("latency", 3)):
        user.wait(f"{cells.format(chart, column)}.some((cell) => parseFloat(cell.textContent) > 0)")
    user.wait("document.querySelectorAll('[data-chart=rate] path.line').length >= 3")
    user.wait("document.querySelectorAll('[data-chart=latency] :is(path.line, circle)').length >= 2")
    assert "succeeded" in user.run("document.querySelector('[data-chart=rate] svg').getAttribute('aria-label')")
    assert rows(user, "rate")[0][3] == "0.0/s"


def test_a_restart_is_a_gap_and_the_live_tail_comes_back(
    browser: Browser, stack: Stack, user: Window, session: dict[str, str]
) -> None:
    path = new_document(session, "Through a restart", "before")
    reader = browser.window()
    sign_in(reader, stack.user, stack.password, path)
    reader.wait_for_text(STATE, "Live")
    reader.run(f"""{{
      window.states = [];
      const pill = document.querySelector({json.dumps(STATE)});
      new MutationObserver(() => states.push(pill.textContent)).observe(pill, {{ childList: true }});
    }}""")
    visit(user, "/service", "Service")
    user.wait("document.querySelectorAll('[data-chart=rate] path.line').length > 0")
    docker("restart", containers()[in_charge("api")]["Id"])
    deadline = time.monotonic() + WAIT_SECONDS
    while ask("/healthz").status != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    append(session, path.removeprefix("/documents/"), "meanwhile")
    reader.wait("states.includes('Reconnecting…') && states.at(-1) === 'Live'")
    append(session, path.removeprefix("/documents/"), "after")
    reader.wait(f"{ENTRIES}.join() === 'before,meanwhile,after'")
    user.wait("document.querySelectorAll('[data-chart=rate] .mark').length === 1")
    # A second line, after the mark.
    x = "Number(document.querySelector('[data-chart=rate] .mark').getAttribute('x1'))"
    begins = "parseFloat((line.getAttribute('d') ?? `M${line.getAttribute('cx')}`).slice(1))"
    user.wait(f"[...document.querySelectorAll('[data-chart=rate] :is(path.line, circle).line-1')].some((line) => {begins} > {x})")
    mark, baseline = user.run(f"[{x}, Number(document.querySelector('[data-chart=rate] .axis').getAttribute('y1'))]")
    lines = user.run("[...document.querySelectorAll('[data-chart=rate] path.line')].map((line) => line.getAttribute('d'))")
    drawn = [[(float(at), float(height)) for at, height in re.findall(r"([\d.]+) ([\d.-]+)", line)] for line in lines]
    assert drawn
    for line in drawn:
        assert not line[0][0] < mark < line[-1][0], "a line goes on through the restart"
        assert max(height for _, height in line) <= baseline, "a rate below zero"
    for each in (user, reader):
        outages(each)
    assert reader.problems == []
    reader.close()


def test_rates_are_differences_and_never_negative(user: Window) -> None:
    """The functions that the charts are drawn from, as the browser has loaded them."""
    prepared = """
    const { point, quantile, reading } = await import(document.querySelector("link[href*='/assets/activity.']").href);
    const at = (second, count, container = {}) => reading({
      release: "r", colour: "blue", since: "s", observed_at: new Date(second * 1000).toISOString(), ...container,
      requests: { informational: 0, successful: count, redirection: 0, client_error: 0, server_error: 0 },
      latency: { sum_seconds: count, buckets: [{ at_most_seconds: 0.1, count: count / 2 }, { at_most_seconds: null, count }] },
    });"""

    def run(script: str) -> Value:
        return user.run(f"(async () => {{ {prepared} return {script}; }})()")

    assert run("point(at(0, 10), at(5, 30)).succeeded") == 4
    for case in (
        "undefined, at(5, 30)",
        "at(0, 30), at(5, 10)",
        'at(0, 10), at(5, 30, { since: "t" })',
        'at(0, 10), at(5, 30, { colour: "green" })',
        "at(0, 10), at(500, 30)",
        "at(5, 10), at(5, 30)",
    ):
        assert run(f"Object.values(point({case})).slice(1)") == [None] * 5, case
    assert run("quantile(0.5, [0.1, 0.2, Infinity], [2, 6, 10])") == pytest.approx(0.175)
    assert run("quantile(0.95, [0.1, 0.2, Infinity], [2, 6, 10])") == pytest.approx(0.2)
    assert run("quantile(0.5, [0.1, Infinity], [0, 0])") is None
