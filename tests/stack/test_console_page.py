"""What protects the console's page, and how it looks."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
from browser import WAIT_SECONDS, Window
from console import STATE, new_document, visit
from installation import REPOSITORY, URL, ask

SCREENSHOTS = Path(os.environ.get("SEAWALL_TEST_SCREENSHOTS", REPOSITORY / "tests/.screenshots"))

# Every text against what lies behind it: WCAG 2, contrast of 4.5 to 1.
PALE_TEXTS = """(() => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = ([red, green, blue]) => 0.2126 * light(red) + 0.7152 * light(green) + 0.0722 * light(blue);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3) return colour;
    }
    return [255, 255, 255];
  };
  const texts = [...document.querySelectorAll("body *")].filter((element) => element.checkVisibility()
    && !element.disabled && [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
  return texts.flatMap((element) => {
    const style = getComputedStyle(element);
    const [one, other] = [parse(element.closest("svg") ? style.fill : style.color), behind(element)].map(luminance);
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    return contrast < 4.5 ? [`${element.textContent.trim()}: ${contrast.toFixed(2)}`] : [];
  });
})()"""


def asset(name: str) -> str:
    found = re.search(rf'"(/assets/{name}\.[0-9a-f]+\.js)"', ask("/").body)
    assert found is not None
    return found[1]


@pytest.mark.requirement("WEB-01")
@pytest.mark.parametrize("name", ["console", "live", "api"])
def test_a_script_that_was_changed_does_not_run(window: Window, name: str) -> None:
    """The page's own and those that it imports, which could send passwords anywhere."""
    path = asset(name)
    window.replace(URL + path, f"window.changed = true;{ask(path).body}".encode())
    window.open("/")
    deadline = time.monotonic() + WAIT_SECONDS
    while not [problem for problem in window.problems if "integrity" in problem]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert window.run("[window.changed ?? null, document.forms.length]") == [None, 0]
    window.problems.clear()


@pytest.mark.requirement("WEB-01")
def test_a_script_whose_hash_the_page_does_not_name_does_not_run(window: Window) -> None:
    page = ask("/").body
    named = re.compile(r'<link rel="modulepreload"[^>]*>')
    assert named.search(page)
    window.replace(f"{URL}/", named.sub("", page).encode())
    window.open("/")
    assert asset("api") not in str(window.run("document.head.innerHTML"))
    # A script of the page's own runs after those before it, so by now the others would have.
    window.wait("performance.getEntriesByType('resource').some((entry) => entry.name.includes('/assets/console.'))")
    assert window.run("document.forms.length") == 0
    window.problems.clear()


# Of the page's ground, from 0 to 255.
BRIGHTNESS = "Math.max(...getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3))"


def look(window: Window, name: str) -> None:
    """In both schemes, wide and narrow: nothing is cut off, all can be read, and what can be used has a name."""
    for scheme in ("light", "dark"):
        window.prefer(scheme)
        for width in (1200, 360):
            window.resize(width, 800)
            window.run("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))")
            assert window.run("document.documentElement.scrollWidth") <= width, f"{name} is wider than {width}"
            # Colours change over a moment.
            window.wait("document.getAnimations().length === 0")
            assert window.run(PALE_TEXTS) == [], f"{name}, {scheme}"
            assert (window.run(BRIGHTNESS) < 64) == (scheme == "dark"), f"{name}, {scheme}"
            window.screenshot(SCREENSHOTS / f"{name}-{scheme}-{width}.png")
    nodes = window.call("Accessibility.getFullAXTree")["nodes"]
    used = [node for node in nodes if node["role"]["value"] in {"button", "link", "textbox", "image", "DisclosureTriangle"}]
    assert used
    assert [node["role"] for node in used if not node["ignored"] and not node["name"]["value"]] == []
    window.resize(1200, 800)
    window.prefer("light")


def test_it_looks_right_in_both_schemes_and_sizes(
    window: Window, user: Window, session: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    window.open("/")
    window.wait("document.forms.length === 1")
    look(window, "sign-in")
    visit(user, "/", "Documents")
    look(user, "documents")
    entries = ("Gates closed at 06:10, wind from the north-west.", "Water at 3.41 m.\nNo damage.", "Gates open again.")
    visit(user, new_document(session, "Harbour log, November", *entries), "Harbour log, November")
    user.wait_for_text(STATE, "Live")
    look(user, "document")
    visit(user, "/service", "Service")
    user.wait("document.querySelectorAll('[data-chart=rate] path.line').length > 0")
    user.run("document.querySelector('details').open = true")
    look(user, "service")
    with capsys.disabled():
        print(f"\nscreenshots of the console: {SCREENSHOTS}")
