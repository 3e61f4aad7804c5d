"""Build contexts: only what reaches an image changes its tag, and the archive holds exactly that."""

from __future__ import annotations

import base64
import datetime
import io
import os
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import content_hash as module
import pytest
from ansible.errors import AnsibleFilterError


@pytest.fixture
def context(tmp_path: Path) -> Path:
    for name, text in {"Dockerfile": "FROM x", "src/app.py": "print()", "tests/test_app.py": "", "docs/a.md": "a"}.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (tmp_path / ".dockerignore").write_text("# not for the image\ndocs\n")
    return tmp_path


def hash_of(context: Path, *exclude: str) -> str:
    return str(module.content_hash(module.entries(str(context), exclude)))


def packed(context: Path, *exclude: str) -> str:
    return str(module.pack(module.entries(str(context), exclude)))


def names(context: Path, *exclude: str) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(packed(context, *exclude)))) as archive:
        return archive.getnames()


def test_what_is_ignored_is_neither_sent_nor_hashed(context: Path) -> None:
    before = hash_of(context, "tests")
    (context / "docs/a.md").write_text("changed")
    (context / "tests/test_app.py").write_text("changed")
    (context / "src/__pycache__").mkdir()
    (context / "src/__pycache__/app.cpython-311.pyc").write_text("x")
    (context / ".pytest_cache").mkdir()
    (context / ".pytest_cache/README").write_text("x")
    assert hash_of(context, "tests") == before
    assert names(context, "tests") == ["Dockerfile", "src/app.py"]


@pytest.mark.parametrize("change", ["content", "name", "mode", "dockerfile", "link", "ignore"])
def test_what_reaches_the_image_changes_the_hash(context: Path, change: str) -> None:
    before = hash_of(context)
    source = context / "src/app.py"
    if change == "content":
        source.write_text("print(1)")
    elif change == "name":
        source.rename(context / "src/main.py")
    elif change == "mode":
        source.chmod(0o755)
    elif change == "dockerfile":
        (context / "Dockerfile").write_text("FROM y")
    elif change == "link":
        (context / "src/other.py").symlink_to("app.py")
    else:
        (context / ".dockerignore").unlink()
    assert hash_of(context) != before


def test_ingredients_change_the_hash_and_their_boundaries_count(context: Path) -> None:
    hashes = {module.content_hash(module.entries(str(context)), parts) for parts in (["ab", "c"], ["a", "bc"], ["abc"], [])}
    assert len(hashes) == 4


def test_group_bits_of_a_checkout_do_not_matter(context: Path) -> None:
    before = packed(context)
    (context / "src/app.py").chmod(0o664)
    (context / "src").chmod(0o775)
    assert packed(context) == before


def test_equal_length_does_not_mean_equal_time() -> None:
    assert module.time_of(b"<p>1</p>") != module.time_of(b"<p>2</p>")


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*.md", "a.md", True),
        ("*.md", "docs/a.md", False),
        ("**/*.md", "docs/deep/a.md", True),
        ("**/*.md", "a.md", True),
        ("docs/", "docs/a.md", True),
        ("/docs", "docs/a.md", True),
        ("docs/*/x", "docs/a/x", True),
        ("docs/*/x", "docs/a/b/x", False),
        ("doc?", "docs/a", True),
        ("[a-c].txt", "b.txt", True),
        ("docs", "docsen/a", False),
        ("a.b", "aXb", False),
    ],
)
def test_patterns_mean_what_they_mean_to_docker(pattern: str, path: str, *, expected: bool) -> None:
    assert module.excluded(path, module.rules([pattern])) is expected


def test_last_matching_rule_wins_and_the_dockerfile_is_always_sent(context: Path) -> None:
    (context / ".dockerignore").write_text("*\n!src\n")
    assert names(context) == ["Dockerfile", "src/app.py"]


@pytest.mark.parametrize("missing", ["Dockerfile", ""])
def test_context_that_cannot_be_built_is_refused(context: Path, missing: str) -> None:
    target = context if missing else context / "nowhere"
    (context / "Dockerfile").unlink()
    with pytest.raises(AnsibleFilterError, match="images_contexts"):
        module.entries(str(target))


def test_tag_follows_base_recipe_and_epoch(context: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    recipe = tmp_path_factory.mktemp("base") / "build"
    images = {"edge": {"context": str(context), "target": "", "exclude": []}}
    tags = set()
    for text, epoch in (("one", "1"), ("two", "1"), ("one", "2")):
        recipe.write_text(text)
        tags |= set(module.image_references(images, str(recipe), epoch).values())
    assert len(tags) == 6


def test_epoch_may_be_what_yaml_makes_of_a_date(context: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    recipe = tmp_path_factory.mktemp("base") / "build"
    recipe.touch()
    images = {"edge": {"context": str(context), "target": "", "exclude": []}}
    day = datetime.date(2026, 7, 1)
    assert module.image_references(images, str(recipe), day) == module.image_references(images, str(recipe), "2026-07-01")


def test_context_that_changed_after_it_was_named_is_refused(context: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    recipe = tmp_path_factory.mktemp("base") / "build"
    recipe.touch()
    images = {"edge": {"context": str(context), "target": "", "exclude": []}}
    references = module.image_references(images, str(recipe), "1")
    assert module.image_context("edge", images["edge"], references, "1") == packed(context)
    (context / "src/app.py").write_text("changed meanwhile")
    with pytest.raises(AnsibleFilterError, match="changed while"):
        module.image_context("edge", images["edge"], references, "1")


def test_where_a_link_leads_changes_the_hash(context: Path) -> None:
    link = context / "src/other.py"
    link.symlink_to("app.py")
    before = hash_of(context)
    link.unlink()
    link.symlink_to("main.py")
    assert hash_of(context) != before


def test_neither_time_nor_the_order_of_the_file_system_matters(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two checkouts of one revision give one tag and one archive."""
    (context / "src/b.py").touch()
    (context / "a").mkdir()
    (context / "a/z").touch()
    before, tag = packed(context), hash_of(context)
    for path in context.rglob("*"):
        os.utime(path, (1, 1))
    walk, now = os.walk, time.time()

    def backwards(root: Path) -> Iterator[tuple[str, list[str], list[str]]]:
        for directory, names, files in walk(root):
            names.sort(reverse=True)
            yield directory, names, sorted(files, reverse=True)

    monkeypatch.setattr(os, "walk", backwards)
    monkeypatch.setattr(time, "time", lambda: now + 1000)
    assert (packed(context), hash_of(context)) == (before, tag)


def test_the_stage_that_is_built_changes_the_tag(context: Path) -> None:
    found = module.entries(str(context))
    tags = {module.reference("x", {"target": target}, found, "base", "1") for target in ("", "prod", "test")}
    assert len(tags) == 3
