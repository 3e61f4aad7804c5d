"""A setting of the wrong type is told apart from one that is right, for every type that the argument specs use."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from setting_values import TYPES, declared_settings, setting_refusals

ROOT = str(Path(__file__).resolve().parents[2])


def refusals(option: dict[str, Any], value: object, name: str = "edge_thing") -> list[str]:
    return setting_refusals({name: value}, {name: option})


def every_type(options: dict[str, Any]) -> set[str]:
    found = {option["type"] for option in options.values()} | {o["elements"] for o in options.values() if "elements" in o}
    return found.union(*(every_type(option.get("options", {})) for option in options.values()))


def test_every_type_that_is_declared_is_checked() -> None:
    assert every_type(dict(declared_settings(ROOT))) == set(TYPES)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("bool", False),
        ("bool", "no"),
        ("dict", {}),
        ("float", 1),
        ("float", 0.5),
        ("int", -1),
        ("int", "20"),
        ("list", []),
        ("path", ""),
        ("str", "a"),
    ],
)
def test_what_fits_passes(kind: str, value: object) -> None:
    assert refusals({"type": kind}, value) == []


@pytest.mark.parametrize(
    ("kind", "value", "seen"),
    [
        ("bool", 1, "the number 1"),
        ("bool", "maybe", "text"),
        ("dict", [], "a list"),
        ("float", True, "the boolean true"),
        ("float", float("nan"), "the number nan"),
        ("int", 1.0, "the number 1.0"),
        ("int", 2**31, "the number 2147483648"),
        ("int", "2²", "text"),
        ("list", "a,b", "text"),
        ("path", None, "empty"),
        ("str", 8, "the number 8"),
        ("str", date(2026, 7, 1), "the date 2026-07-01"),
        ("str", {}, "a dict"),
    ],
)
def test_what_does_not_fit_is_named(kind: str, value: object, seen: str) -> None:
    (sentence,) = refusals({"type": kind}, value)
    assert sentence.startswith(f"edge_thing is {seen}: write ")


def test_text_is_never_repeated_because_it_may_be_a_secret() -> None:
    (sentence,) = refusals({"type": "dict"}, "hunter2hunter2", "secrets_supplied")
    assert "hunter2" not in sentence


def test_inside_a_dict_even_the_text_of_a_number_is_refused() -> None:
    """Only -e name=value has to write numbers as text; in a dict Jinja would join or repeat them."""
    (sentence,) = refusals({"type": "dict", "options": {"size": {"type": "int"}}}, {"size": "5"})
    assert sentence.startswith("edge_thing.size is text")


def test_everything_that_is_wrong_is_said_at_once() -> None:
    options = {
        "workers": {"type": "int"},
        "level": {"type": "str", "choices": ["low", "high"]},
        "names": {"type": "list", "elements": "str"},
    }
    found = refusals({"type": "dict", "options": options}, {"worker": 1, "level": "middle", "names": ["a", 2]})
    assert [sentence.split()[0] for sentence in found] == [
        "edge_thing.worker",
        "edge_thing",
        "edge_thing.level",
        "edge_thing.names[1]",
    ]
    assert "did you mean workers?" in found[0]
    assert "lacks workers" in found[1]
    assert "use one of low, high" in found[2]


@pytest.mark.parametrize("size", ["1k", "512m", "2G"])
def test_sizes_that_everybody_reads_alike(size: str) -> None:
    assert refusals({"type": "dict"}, {"memory": size}, "edge_resources") == []


@pytest.mark.parametrize("limit", ["", "0m", "64mb", "1.5g", "1 g", "1g\n", "-1g", "512", 0, -0.5])
def test_limits_that_are_none(limit: object) -> None:
    (sentence,) = refusals({"type": "dict"}, {"limit": limit}, "edge_resources")
    assert sentence.startswith("edge_resources.limit is ")
