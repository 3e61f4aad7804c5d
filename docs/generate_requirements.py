"""Write the tests into docs/requirements.md from the markers `requirement("ID", …)`; with --check, only compare.

The promises and what is missing are written by hand, in the page itself.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/requirements.md"
FOLDERS = ("app/tests", "tests", "molecule")
Marked = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
# The service's Python may be newer than the one that reads its tests here.
ALIAS = re.compile(r"^type (?=\w+ = )", re.MULTILINE)
ROW = re.compile(r"\| (?P<id>[A-Z]+-\d\d) \| (?P<promise>[^|]+) \| (?P<tests>[^|]*) \| (?P<missing>[^|]*) \|")


def parse(path: Path) -> ast.Module:
    return ast.parse(ALIAS.sub("", path.read_text(encoding="utf-8")))


def ids_of(node: ast.expr) -> list[str]:
    """What a marker names: the arguments of pytest.mark.requirement, also in a list of marks."""
    if isinstance(node, ast.List | ast.Tuple):
        return [name for element in node.elts for name in ids_of(element)]
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.requirement":
        return [str(ast.literal_eval(argument)) for argument in node.args]
    return []


def marked_in(path: Path) -> Iterator[tuple[str, str]]:
    """(id, test) of one file; a module's own mark names the file."""
    name = path.relative_to(ROOT).as_posix()
    tree = parse(path)
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            yield from ((requirement, name) for requirement in ids_of(node.value))
    for test, node in functions_in(tree).items():
        for decorator in node.decorator_list:
            yield from ((requirement, f"{name}::{test}") for requirement in ids_of(decorator))


def functions_in(tree: ast.Module | ast.ClassDef) -> dict[str, Marked]:
    """Functions, classes and their methods, by the names that pytest has for them."""
    found: dict[str, Marked] = {}
    for node in tree.body:
        if isinstance(node, Marked):
            found[node.name] = node
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{name}": method for name, method in functions_in(node).items()}
    return found


def marked() -> dict[str, list[str]]:
    """Every requirement that a marker names, with the tests that name it."""
    found: dict[str, list[str]] = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("test_*.py")):
            for requirement, test in marked_in(path):
                found.setdefault(requirement, []).append(test)
    return found


def with_tests(page: str) -> str:
    """The page with the tests of each row as the markers have them."""
    found = marked()

    def row(match: re.Match[str]) -> str:
        tests = "<br>".join(f"`{test}`" for test in found.get(match["id"], []))
        return f"| {match['id']} | {match['promise']} | {tests} | {match['missing'].strip()} |"

    return ROW.sub(row, page)


def main() -> int:
    page = PAGE.read_text(encoding="utf-8")
    if "--check" in sys.argv:
        return 0 if page == with_tests(page) else 1
    PAGE.write_text(with_tests(page), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
