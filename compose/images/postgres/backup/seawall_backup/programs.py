"""Running Postgres's own programs."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence

from seawall_backup.errors import BackupError

# Where such messages go on to quote rows of the database, which have no place in a log.
QUOTES_ROWS = re.compile(r'(COPY failed for table "[^"]*"): .*')


def complaint(errors: str) -> str:
    """The first of a program's own complaints (the rest follow from it), without the rows that the server quotes."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    complaints = [line for line in lines if "error:" in line.lower() or "fatal:" in line.lower()] or lines
    return QUOTES_ROWS.sub(r"\1", complaints[0]) if complaints else "without a word"


def run(argv: Sequence[str], environment: Mapping[str, str]) -> str:
    """Run to the end and return stdout; BackupError with the program's own last words when it fails.

    Output goes through files, not pipes: a server that pg_ctl starts keeps its descriptors, and a pipe would never end.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        code = subprocess.run(
            argv, env=dict(environment), stdin=subprocess.DEVNULL, stdout=output, stderr=errors, check=False
        ).returncode
        output.seek(0)
        errors.seek(0)
        if code != 0:
            raise BackupError(f"{argv[0]} ended with {code}: {complaint(errors.read().decode(errors='replace'))}")
        return output.read().decode(errors="replace")
