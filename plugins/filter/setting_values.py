"""Find settings that are not of the declared type, before a role or a container would misread them."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from ansible.module_utils.common.yaml import yaml_load

LARGEST = 2**31 - 1
# Docker, Postgres and the kernel's tmpfs all read this spelling alike; they differ about 64mb and 1.5g.
SIZE = re.compile(r"[1-9][0-9]*[kmgKMG]")
SMALLEST_CPU_SHARE = 0.01
# What -e name=value makes of a boolean or a number.
BOOLEAN_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "1", "0"})
WHOLE_NUMBER = re.compile(r"-?[0-9]{1,10}")

Option = Mapping[str, Any]
Refusals = Iterator[str]


@cache
def declared_settings(root: str) -> dict[str, Option]:
    """Every role's settings, as the argument specs of the repository at root declare them."""
    found: dict[str, Option] = {}
    for spec in sorted(Path(root, "roles").glob("*/meta/argument_specs.yml")):
        loaded = yaml_load(spec.read_text(encoding="utf-8"))
        found |= loaded["argument_specs"]["main"].get("options") or {}
    return found


def kind_of(value: object) -> str:
    """What YAML made of a value, in words; never the text itself, which may be a secret."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, date):
        return f"the date {value}"
    if isinstance(value, str):
        return "text"
    return "a dict" if isinstance(value, Mapping) else "a list"


def is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


# For each type of the argument specs: what passes, and what to write instead of anything else.
TYPES: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "bool": (lambda value: isinstance(value, bool), "write true or false, without quotes"),
    "dict": (lambda value: isinstance(value, Mapping), "write keys and values below it"),
    "float": (is_number, "write a number without quotes, for example 0.5"),
    "int": (is_whole, f"write a whole number without quotes, at most {LARGEST}"),
    "list": (lambda value: isinstance(value, list), "write a list, for example [one, two]"),
    "path": (lambda value: isinstance(value, str), "write a path, in quotes"),
    "str": (lambda value: isinstance(value, str), "write text, in quotes"),
}


def given_with_e(value: object, kind: str) -> bool:
    """Whether this is how `-e name=value`, which knows text only, gives a boolean or a number."""
    if not isinstance(value, str):
        return False
    return (kind == "bool" and value.lower() in BOOLEAN_WORDS) or (kind == "int" and bool(WHOLE_NUMBER.fullmatch(value)))


def type_refusals(name: str, value: object, option: Option) -> Refusals:
    kind = option["type"]
    passes, cure = TYPES[kind]
    if not passes(value):
        yield f"{name} is {kind_of(value)}: {cure}."
    elif "choices" in option and value not in option["choices"]:
        yield f"{name} is {str(value)!r}: use one of {', '.join(str(choice) for choice in option['choices'])}."
    elif isinstance(value, list) and "elements" in option:
        for number, element in enumerate(value):
            yield from type_refusals(f"{name}[{number}]", element, {"type": option["elements"]})
    elif isinstance(value, Mapping) and "options" in option:
        yield from dict_refusals(name, value, option["options"])


def dict_refusals(name: str, value: Mapping[str, object], options: Mapping[str, Option]) -> Refusals:
    """Ansible replaces a dict, it does not merge it, so every key must be there."""
    for key in value:
        if key not in options:
            close = difflib.get_close_matches(str(key), options, n=1, cutoff=0.7)
            meant = f"did you mean {close[0]}?" if close else f"remove it, or use one of {', '.join(options)}."
            yield f"{name}.{key} is not a setting of Seawall: {meant}"
    missing = [key for key in options if key not in value]
    if missing:
        yield (
            f"{name} lacks {', '.join(missing)}: a dict in the inventory replaces the default one, so give all of its keys "
            f"(docs/configuration.md has the defaults)."
        )
    for key, option in options.items():
        if key in value:
            yield from type_refusals(f"{name}.{key}", value[key], option)


def limit_refusals(name: str, limits: Mapping[str, Any]) -> Refusals:
    """A container's limits: Docker takes 0 for no limit, and each program reads odd spellings of a size its own way."""
    for key, value in limits.items():
        if isinstance(value, str) and not SIZE.fullmatch(value):
            yield f"{name}.{key} is {value!r}, which is no size: write a whole number and k, m or g, for example 512m."
        elif is_number(value) and value < SMALLEST_CPU_SHARE:
            yield f"{name}.{key} is {value}, which Docker takes for no limit or refuses: write {SMALLEST_CPU_SHARE} or more."


def setting_refusals(values: Mapping[str, Any], declared: Mapping[str, Option]) -> list[str]:
    """One sentence for each setting that is of the wrong type, no choice, unknown inside a dict, or given in part."""
    sentences: list[str] = []
    for name, option in declared.items():
        if given_with_e(values[name], option["type"]):
            continue
        sentences += type_refusals(name, values[name], option)
        if name.endswith("_resources") and isinstance(values[name], Mapping):
            sentences += limit_refusals(name, values[name])
    return sentences


def setting_names(root: str) -> list[str]:
    """Every setting of the repository at root."""
    return list(declared_settings(root))


def mistyped_settings(values: Iterable[object], root: str) -> list[str]:
    """The refusals of the values of all settings, which come in the order of their names."""
    declared = declared_settings(root)
    return setting_refusals(dict(zip(declared, values, strict=True)), declared)


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        return {"mistyped_settings": mistyped_settings, "setting_names": setting_names}
