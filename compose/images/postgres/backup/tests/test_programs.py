"""A failed program says why, and no row of the database with it."""

from __future__ import annotations

import os

import pytest
from seawall_backup.errors import BackupError
from seawall_backup.programs import complaint, run


def test_the_first_complaint_counts_and_rows_are_left_out() -> None:
    errors = (
        "pg_restore: while PROCESSING TOC:\n"
        'pg_restore: error: COPY failed for table "events": ERROR:  invalid input syntax for type bigint: "secret"\n'
        'CONTEXT:  COPY events, line 1, column id: "secret"\n'
        "pg_restore: error: a worker process died unexpectedly\n"
    )
    assert complaint(errors) == 'pg_restore: error: COPY failed for table "events"'


def test_a_silent_failure_is_a_failure() -> None:
    with pytest.raises(BackupError, match="false ended with 1: without a word"):
        run(["false"], {"PATH": os.environ["PATH"]})


def test_programs_get_only_the_environment_that_they_are_given() -> None:
    assert run(["env"], {"PATH": os.environ["PATH"], "A": "b"}) == f"PATH={os.environ['PATH']}\nA=b\n"
