"""The schema revision this image was built for: the build writes it down, the service reads it."""

from pathlib import Path

from seawall_service.startup_gate import Refusal, StartupRefused

HEAD_FILE = Path(__file__).resolve().parent / "schema_head"


def expected_revision() -> str:
    try:
        return HEAD_FILE.read_text(encoding="ascii").strip()
    except OSError as error:
        refusal = Refusal(
            str(HEAD_FILE),
            "is missing, so readiness could not tell whether the schema fits",
            "Build the image, or run python -m seawall_service.db.pin_head",
        )
        raise StartupRefused([refusal]) from error
