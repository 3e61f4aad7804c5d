"""One installation for all stack tests, made by the same command that a user types, and removed afterwards."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import neighbour
import pytest
from browser import Browser, Window
from console import sign_in
from installation import (
    PROJECT,
    ROOT,
    Run,
    ask_when_allowed,
    containers,
    copy_checkout,
    docker,
    images,
    named_images,
    of_changed_checkouts,
    seawall,
)

# Where settings.yml has it shown.
FIRST_SIGN_IN = ROOT / "first-sign-in"


@dataclass
class Stack:
    """The installation and the first user's session."""

    first_run: Run
    user: str
    password: str

    signed_in_at: float = 0
    headers: dict[str, str] = field(default_factory=dict)

    def session(self) -> dict[str, str]:
        """Headers of a signed-in user; an access token lasts 15 minutes, and all tests together take longer."""
        if not self.headers or time.monotonic() - self.signed_in_at > 300:
            self.headers, self.signed_in_at = self.sign_in(), time.monotonic()
        return self.headers

    def sign_in(self) -> dict[str, str]:
        answer = ask_when_allowed("/api/auth/login", "POST", {"username": self.user, "password": self.password})
        assert answer.status == 200, answer
        return {"Authorization": f"Bearer {answer.body['access_token']}"}


def remove_installation() -> None:
    if not ROOT.exists() and not containers():
        return
    # A deploy that failed may have left it, and a teardown keeps what it does not know.
    FIRST_SIGN_IN.unlink(missing_ok=True)
    seawall("teardown", "-e", f"confirm={PROJECT}", "-e", "delete_data=true")


def first_deploy() -> Stack:
    # As talkative as it gets: what it prints is searched for secrets.
    run = seawall("deploy", "--diff", "-vvv")
    if run.code != 0:
        pytest.exit(f"the first deploy failed:\n{run.output[-20000:]}", returncode=1)
    words = dict(line.split(maxsplit=1) for line in FIRST_SIGN_IN.read_text(encoding="utf-8").splitlines())
    FIRST_SIGN_IN.unlink()
    return Stack(run, words["user:"], words["password:"])


# Some parts of the tests need nobody beside them, and so not the minutes that it takes to deploy him.
ALONE = os.environ.get("SEAWALL_TEST_ALONE") == "yes"


@pytest.fixture(scope="session")
def neighbour_before() -> Iterator[neighbour.State | None]:
    """A deployed stack beside the tests, as it was before they began."""
    if ALONE:
        neighbour.playbook("start_engine")
        yield None
        return
    try:
        deployed = neighbour.deploy()
        # Whoever waits may use the engine from here on: nobody stops it any more.
        if waited_for := os.environ.get("SEAWALL_TEST_ENGINE_STAYS"):
            Path(waited_for).touch()
        yield deployed
    finally:
        neighbour.remove()


@pytest.fixture(scope="session")
def stack(neighbour_before: neighbour.State | None) -> Iterator[Stack]:
    """Deploy once; on the way out, however that is taken, remove containers, volumes, networks and files."""
    remove_installation()
    try:
        deployed = first_deploy()
        kept = named_images()
        if neighbour_before:
            neighbour.build_an_image(kept)
        yield deployed
    finally:
        remove_installation()
        changed = neighbour.describe(neighbour_before) if neighbour_before else ""
    assert changed == "", f"the tests touched the stack deployed beside them: {changed}"
    made = of_changed_checkouts - kept
    if made & images():
        docker("image", "rm", *sorted(made & images()))
    assert ALONE or neighbour.IMAGE in images(), "the tests removed an image that they have not built"
    assert containers() == {}
    assert not ROOT.exists()
    assert docker("volume", "ls", "--quiet", "--filter", f"label=com.docker.compose.project={PROJECT}") == ""


@pytest.fixture
def session(stack: Stack) -> dict[str, str]:
    """Headers of a signed-in user."""
    return stack.session()


@pytest.fixture
def document(session: dict[str, str]) -> str:
    """The id of a new document."""
    answer = ask_when_allowed("/api/v1/documents", "POST", {"title": "A test's document"}, session)
    assert answer.status == 201, answer
    return str(answer.body["id"])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what the containers logged last."""
    report = yield
    # Some tests run before there is an engine to ask.
    if report.failed and call.when == "call" and shutil.which("docker"):
        # Others look at an engine that is stopped.
        for name, entry in containers().items() if docker("version", "--format", "{{.Server.Version}}", check=False) else ():
            report.sections.append((f"log of {name}", docker("logs", "--tail", "5", entry["Id"], check=False)))
    return report


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of this repository that the test may change."""
    return copy_checkout(tmp_path / "checkout")


@pytest.fixture(scope="module")
def browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    # What it looks at must be there first.
    request.getfixturevalue("stack")
    with Browser() as started:
        yield started
    assert docker("ps", "--all", "--quiet", "--filter", f"name={started.name}") == ""


@pytest.fixture
def window(browser: Browser) -> Iterator[Window]:
    """One whose console must stay silent; a test that breaks something takes away what it expects."""
    opened = browser.window()
    yield opened
    assert opened.problems == []
    opened.close()


@pytest.fixture(scope="module")
def signed_in(browser: Browser, stack: Stack) -> Iterator[Window]:
    """A session that several tests use, as sign-ins are limited."""
    opened = browser.window()
    sign_in(opened, stack.user, stack.password)
    opened.wait("!document.getElementById('account').hidden")
    yield opened
    opened.close()


@pytest.fixture
def user(signed_in: Window) -> Iterator[Window]:
    signed_in.problems.clear()
    yield signed_in
    assert signed_in.problems == []
