"""The manifest: what is written is read again, and every difference has a name."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from seawall_backup.errors import BackupError
from seawall_backup.manifest import (
    SET_ID,
    Contents,
    Manifest,
    Source,
    StoredFile,
    Table,
    decode,
    differences,
    encode,
    globals_for_new_cluster,
    set_id,
    space_needed,
)

CONTENTS = Contents(
    tables={"app.events": Table(3, "-17", 9), "app.proj_users": Table(0, "0", None)},
    sequences={"app.events_id_seq": 10},
    revisions=["0001"],
)
MANIFEST = Manifest(
    id="20260102T030405Z-00000001000000AB",
    created_at="2026-01-02T03:04:05+00:00",
    verified_at="2026-01-02T03:04:06+00:00",
    seconds=1.5,
    source=Source("app", "7", "17.1", "17.1", "image", "1/AB", "2026-01-02T03:04:05+00:00"),
    contents=CONTENTS,
    files={"app.dump": StoredFile(5, "ab"), "globals.sql": StoredFile(2, "cd")},
)


def test_what_is_written_is_read_again() -> None:
    assert decode(encode(MANIFEST)) == MANIFEST
    assert (MANIFEST.bytes, MANIFEST.rows) == (7, 3)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"{", encode(MANIFEST).replace(b'"format": 1', b'"format": 2')])
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(BackupError):
        decode(data)


def test_an_unknown_field_of_a_table_is_refused() -> None:
    document = json.loads(encode(MANIFEST))
    document["tables"]["app.events"]["surprise"] = 1
    with pytest.raises(BackupError):
        decode(json.dumps(document).encode())


def test_set_ids_sort_by_time_then_by_position_in_the_log() -> None:
    early = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    late = datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC)
    ids = [set_id(early, "0/FFFFFFFF"), set_id(early, "1/0"), set_id(early, "A/0"), set_id(late, "0/1")]
    assert ids == sorted(ids)
    assert all(SET_ID.match(identity) for identity in ids)


def test_the_same_contents_do_not_differ() -> None:
    assert differences(CONTENTS, CONTENTS) == []


@pytest.mark.parametrize(
    ("restored", "words"),
    [
        (replace(CONTENTS, tables={"app.events": CONTENTS.tables["app.events"]}), "app.proj_users is missing"),
        (replace(CONTENTS, tables=CONTENTS.tables | {"app.x": Table(0, "0", None)}), "app.x was not in the snapshot"),
        (replace(CONTENTS, tables=CONTENTS.tables | {"app.events": Table(2, "-17", 9)}), "2 rows instead of 3"),
        (replace(CONTENTS, tables=CONTENTS.tables | {"app.events": Table(3, "-18", 9)}), "their contents differ"),
        (replace(CONTENTS, tables=CONTENTS.tables | {"app.events": Table(3, "-17", 8)}), "their contents differ"),
        (replace(CONTENTS, sequences={"app.events_id_seq": 9}), "stands at 9, before 10"),
        (replace(CONTENTS, sequences={}), "stands at nothing, before 10"),
        (replace(CONTENTS, revisions=[]), "schema revision"),
    ],
)
def test_each_difference_is_named(restored: Contents, words: str) -> None:
    (found,) = differences(CONTENTS, restored)
    assert words in found


def test_a_sequence_may_be_ahead_of_the_snapshot() -> None:
    assert differences(CONTENTS, replace(CONTENTS, sequences={"app.events_id_seq": 99})) == []


def test_only_the_superuser_is_left_out_of_the_roles() -> None:
    script = (
        "CREATE ROLE postgres;\nALTER ROLE postgres WITH SUPERUSER;\nCREATE ROLE postgres_exporter;\nCREATE ROLE seawall_app;\n"
    )
    assert globals_for_new_cluster(script) == script.removeprefix("CREATE ROLE postgres;\n")


def test_room_for_the_dump_and_its_restored_copy() -> None:
    reserve = 512 * 1024**2
    assert space_needed(0, None) == reserve
    assert space_needed(10_000_000, None) == reserve + 5_000_000 + 13_000_000
    assert space_needed(10_000_000, 2_000_000) == reserve + 3_000_000 + 13_000_000
