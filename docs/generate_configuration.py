"""Write docs/configuration.md from the roles' argument specs; with --check, only tell whether it is up to date."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/configuration.md"
HEAD = """# Configuration

Every setting, by role. Set them in the inventory that `./seawall init` writes (`inventories/NAME/group_vars/seawall.yml`)
or with `-e`. A setting that is not listed here is refused by `./seawall check`. A dict in the inventory replaces the
default dict, so give all of its keys; `./seawall check` names the ones that are missing, but of dicts whose keys are not listed
here, such as `host_baseline_sysctl`.

This page is generated: change `roles/*/meta/argument_specs.yml`, then run `.venv/bin/python docs/generate_configuration.py`.
"""


def literal(value: object) -> str:
    """A default as one would write it in YAML on one line."""
    return f"`{json.dumps(value) if not isinstance(value, str) else value or '(empty)'}`".replace("|", "\\|")


def default_of(name: str, option: dict[str, Any], parent: dict[str, Any]) -> str:
    """What a setting is when nobody sets it; a key of a dict may have its default in that of the dict."""
    if option["type"] == "dict" and "options" in option:
        return ""
    for defaults, key in ((option, "default"), (parent, name)):
        if key in defaults:
            return literal(defaults[key])
    return "required" if option.get("required") else ""


def rows(options: dict[str, Any], parent: dict[str, Any], prefix: str = "") -> list[str]:
    """One table row for each option, nested ones after their parent, whose default dict comes along."""
    lines: list[str] = []
    for name, option in options.items():
        kind = option["type"] + (f" of {option['elements']}" if "elements" in option else "")
        choices = f" One of {', '.join(f'`{choice}`' for choice in option['choices'])}." if "choices" in option else ""
        text = option["description"]
        description = " ".join((text if isinstance(text, str) else " ".join(text)).split())
        lines.append(f"| `{prefix}{name}` | {kind} | {default_of(name, option, parent)} | {description}{choices} |")
        lines += rows(option.get("options", {}), option.get("default") or {}, f"{prefix}{name}.")
    return lines


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for spec in sorted(ROOT.glob("roles/*/meta/argument_specs.yml")):
        entry = yaml.safe_load(spec.read_text(encoding="utf-8"))["argument_specs"]["main"]
        if entry.get("options"):
            table = ["| setting | type | default | what it does |", "|---|---|---|---|", *rows(entry["options"], {})]
            parts.append(f"\n## {spec.parts[-3]}\n\n{entry['short_description']}.\n\n" + "\n".join(table) + "\n")
    return "".join(parts)


def main() -> int:
    if "--check" in sys.argv:
        return 0 if PAGE.read_text(encoding="utf-8") == page() else 1
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
