"""Build step: writes the head of migrations/ where the service and the migration job read it."""

from seawall_service.db.revision import HEAD_FILE
from seawall_service.migrate import single_head

if __name__ == "__main__":
    HEAD_FILE.write_text(f"{single_head()}\n", encoding="ascii")
