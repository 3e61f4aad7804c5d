"""`python -m seawall_service.env_example` prints .env.example; a test compares the two."""

import sys

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from seawall_service.settings import FirstUserSettings, MigrationSettings, Settings

SECTIONS: tuple[tuple[str, type[BaseSettings]], ...] = (
    ("API and auth gateway", Settings),
    ("python -m seawall_service.migrate", MigrationSettings),
    ("python -m seawall_service.users.first_user", FirstUserSettings),
)


def example_value(field: FieldInfo) -> str:
    if field.default_factory is not None or field.is_required() or field.default is None:
        return ""
    if isinstance(field.default, tuple):
        return ",".join(field.default)
    if isinstance(field.default, bool):
        return str(field.default).lower()
    return str(field.default)


def render() -> str:
    lines = ["# Every variable this image reads, with its default. Generated: python -m seawall_service.env_example"]
    seen: set[str] = set()
    for title, model in SECTIONS:
        lines += ["", f"## {title}"]
        for field in model.model_fields.values():
            name = str(field.alias)
            if name not in seen:
                seen.add(name)
                value = example_value(field)
                # Commented out when unset: gunicorn and prometheus_client do not take an empty variable for none.
                lines += [f"# {field.description}", f"{name}={value}" if value else f"# {name}="]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(render())
