"""The secrets module: what it generates, keeps, derives, repairs and refuses."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import seawall_secrets as module
from ansible.module_utils.testing import patch_module_args

ME = os.geteuid()
STRONG = "f3b1c07de5a94682-a-value-of-the-users-own"
RULES = "~* &* +@all -@admin"
WANTED: list[dict[str, Any]] = [
    {"name": "db_app_password", "owner": ME, "kind": "password"},
    {"name": "cache_password", "owner": ME, "kind": "password"},
    {"name": "jwt_secret", "owner": ME, "kind": "key"},
    {"name": "db_verifiers", "owner": ME, "kind": "scram_verifiers", "sources": {"seawall_app": "db_app_password"}},
    {"name": "cache_acl", "owner": ME, "kind": "valkey_acl", "sources": {"seawall": "cache_password"}, "rules": RULES},
]
BASES = ["cache_password", "db_app_password", "jwt_secret"]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "root/secrets"


def run(
    directory: Path, capsys: pytest.CaptureFixture[str], *, supplied: dict[str, Any] | None = None, check: bool = False
) -> dict[str, Any]:
    """Run the module as Ansible does; what it printed is what a log could hold."""
    arguments = {"path": str(directory), "secrets": WANTED, "supplied": supplied or {}, "_ansible_check_mode": check}
    with patch_module_args(arguments), pytest.raises(SystemExit):
        module.main()
    output = capsys.readouterr()
    values = [path.read_text() for path in directory.glob("*") if path.is_file()] if directory.is_dir() else []
    values += [value for value in (supplied or {}).values() if isinstance(value, str)]
    assert [value for value in values if value and value in output.out + output.err] == []
    result: dict[str, Any] = json.loads(output.out)
    return result


def contents(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(directory.iterdir())}


def test_everything_missing_is_made_and_private(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(directory, capsys)
    assert result["changed"]
    assert sorted(result["created"]) == BASES
    assert sorted(result["derived"]) == ["cache_acl", "db_verifiers"]
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o400}
    values = contents(directory)
    assert [module.weakness(values[name]) for name in BASES] == ["", "", ""]
    assert len({values[name] for name in BASES}) == len(BASES)


def test_second_run_changes_nothing(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = run(directory, capsys)
    before = contents(directory)
    second = run(directory, capsys)
    assert not second["changed"]
    assert contents(directory) == before
    assert second["fingerprint"] == first["fingerprint"]


def test_check_mode_tells_and_writes_nothing(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(directory, capsys, check=True)
    assert result["changed"]
    assert sorted(result["created"]) == BASES
    assert not directory.parent.exists()
    run(directory, capsys)
    before = contents(directory)
    assert run(directory, capsys, check=True, supplied={"jwt_secret": STRONG})["replaced"] == ["jwt_secret"]
    assert contents(directory) == before


def test_supplied_value_replaces_by_name_and_its_derived_file_follows(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(directory, capsys)
    result = run(directory, capsys, supplied={"cache_password": STRONG})
    assert (result["replaced"], result["derived"], result["created"]) == (["cache_password"], ["cache_acl"], [])
    assert contents(directory)["cache_password"] == STRONG
    assert contents(directory)["cache_acl"] == (
        f"user default off\nuser seawall on #{hashlib.sha256(STRONG.encode()).hexdigest()} {RULES}\n"
    )
    assert result["fingerprint"] != first["fingerprint"]
    assert result["fingerprints"]["jwt_secret"] == first["fingerprints"]["jwt_secret"]
    assert not run(directory, capsys, supplied={"cache_password": STRONG})["changed"]


def test_verifier_agrees_with_the_example_of_rfc_7677() -> None:
    message = (
        b"n=user,r=rOprNGfwEbeRWgbNEkqO,"
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    )
    verifier = module.scram_verifier("pencil", base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096)
    stored, server = (base64.b64decode(part) for part in verifier.split("$")[2].split(":"))
    assert hmac.digest(server, message, "sha256") == base64.b64decode("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    proof = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    client = bytes(a ^ b for a, b in zip(proof, hmac.digest(stored, message, "sha256"), strict=True))
    assert hashlib.sha256(client).digest() == stored


def test_verifier_of_another_password_is_recomputed(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(directory, capsys)
    path = directory / "db_verifiers"
    path.unlink()
    path.write_text(f"seawall_app {module.scram_verifier('another password', b'0123456789abcdef')}\n")
    assert run(directory, capsys)["derived"] == ["db_verifiers"]
    role, verifier = path.read_text().split()
    assert role == "seawall_app"
    assert module.verifies(verifier, contents(directory)["db_app_password"])
    assert not module.verifies(verifier, "another password")


@pytest.mark.parametrize("nonsense", ["", "SCRAM-SHA-256$1:QQ==$QQ==:QQ==", "SCRAM-SHA-256$4096:Q$QQ==:QQ==", "md5abc"])
def test_damaged_verifier_never_verifies(nonsense: str) -> None:
    assert not module.verifies(nonsense, STRONG)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("changeme", "shorter"),
        ("x" * 40, "repeats"),
        ("0123abcd9" * 5, "repeats"),
        ("please-ChangeMe-before-you-deploy-this", "placeholder"),
        ("a value with spaces that is long enough", "space"),
        ("f3b1c07de5a94682f3b1c07de5a9468é-qwzxy", "ASCII"),
        (12345678901234567890123456789012345, "not a string"),
    ],
)
def test_weak_value_is_refused_by_name_before_anything_is_made(
    directory: Path, capsys: pytest.CaptureFixture[str], value: object, reason: str
) -> None:
    result = run(directory, capsys, supplied={"jwt_secret": value})
    assert result["failed"]
    assert "secrets_supplied.jwt_secret" in result["refusal"]
    assert reason in result["refusal"]
    assert not list(directory.glob("*"))


@pytest.mark.parametrize("name", ["db_verifiers", "jwt_secrte"])
def test_name_that_cannot_be_supplied_is_refused(directory: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert f"secrets_supplied.{name}" in run(directory, capsys, supplied={name: STRONG})["refusal"]


def test_one_value_for_two_secrets_is_refused(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(directory, capsys, supplied={"jwt_secret": STRONG})
    before = contents(directory)
    assert "jwt_secret" in run(directory, capsys, supplied={"cache_password": STRONG})["refusal"]
    assert contents(directory) == before


def test_empty_file_is_refused_and_not_replaced(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(directory, capsys)
    path = directory / "jwt_secret"
    path.unlink()
    path.touch()
    assert "is empty" in run(directory, capsys)["refusal"]
    assert path.read_text() == ""


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("/etc/hostname"), os.mkfifo, Path.mkdir])
def test_what_is_no_plain_file_is_refused(
    directory: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], None]
) -> None:
    run(directory, capsys)
    (directory / "jwt_secret").unlink()
    make(directory / "jwt_secret")
    assert "look at it" in run(directory, capsys)["refusal"]


def test_owner_mode_and_newline_are_repaired_and_reported(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(directory, capsys)
    before = contents(directory)
    (directory / "cache_acl").chmod(0o644)
    (directory / "jwt_secret").chmod(0o600)
    (directory / "jwt_secret").write_text(before["jwt_secret"] + "\n")
    assert sorted(run(directory, capsys)["repaired"]) == ["cache_acl", "jwt_secret"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o400}
    assert contents(directory) == before


def test_rest_of_a_killed_run_is_swept(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(directory, capsys)
    (directory / f"{module.TEMPORARY}0011").write_text("half a sec")
    run(directory, capsys)
    assert not list(directory.glob(f"{module.TEMPORARY}*"))


def test_generated_file_never_replaces_one_that_appeared_meanwhile(directory: Path) -> None:
    with module.open_directory(str(directory), pretend=False) as (opened, _):
        (directory / "jwt_secret").write_text("of somebody else")
        with pytest.raises(module.UnsafeFileError):
            opened.write("jwt_secret", b"ours", ME, replace=False)
    assert contents(directory) == {"jwt_secret": "of somebody else"}


def test_other_files_are_listed_but_left_out_of_the_fingerprint(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = run(directory, capsys)
    (directory / "first_user_password").write_text("still here")
    second = run(directory, capsys)
    assert second["files"]["first_user_password"] is True
    assert second["fingerprint"] == first["fingerprint"]


def test_a_check_repairs_nothing(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(directory, capsys)
    (directory / "jwt_secret").chmod(0o600)
    assert run(directory, capsys, check=True)["repaired"] == ["jwt_secret"]
    assert stat.S_IMODE((directory / "jwt_secret").stat().st_mode) == 0o600


def test_a_directory_that_others_can_enter_is_closed_and_told(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(directory, capsys)
    directory.chmod(0o755)
    assert run(directory, capsys)["changed"]
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert not run(directory, capsys)["changed"]


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"password" * 5, "holds a value that protects nothing: it repeats itself"), (b"\xff" * 40, "is not text")],
)
def test_a_file_that_protects_nothing_is_refused_and_stays(
    directory: Path, capsys: pytest.CaptureFixture[str], content: bytes, words: str
) -> None:
    run(directory, capsys)
    (directory / "jwt_secret").unlink()
    (directory / "jwt_secret").write_bytes(content)
    with patch_module_args({"path": str(directory), "secrets": WANTED}), pytest.raises(SystemExit):
        module.main()
    assert words in json.loads(capsys.readouterr().out)["refusal"]
    assert (directory / "jwt_secret").read_bytes() == content


def test_fingerprints_cannot_be_made_from_guesses(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They stand on labels that others read: the same values under another key are another fingerprint."""
    first = run(directory, capsys)
    (directory / module.FINGERPRINT_KEY).unlink()
    second = run(directory, capsys)
    assert not first["fingerprints"].items() & second["fingerprints"].items()


def test_a_verifier_of_too_few_rounds_is_recomputed() -> None:
    salt = b"0123456789abcdef"
    assert module.verifies(module.scram_verifier(STRONG, salt), STRONG)
    assert not module.verifies(module.scram_verifier(STRONG, salt, module.SCRAM_ITERATIONS - 1), STRONG)


@pytest.mark.skipif(ME != 0, reason="only root can give a file away")
def test_files_belong_to_the_container_that_reads_them(
    directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WANTED[0], "owner", 10101)
    monkeypatch.setitem(WANTED[3], "owner", 10102)
    run(directory, capsys)
    owners = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in directory.iterdir()}
    assert owners["db_app_password"] == (10101, 10101)
    assert owners["db_verifiers"] == (10102, 10102)
    os.chown(directory / "db_app_password", 0, 0)
    assert run(directory, capsys)["repaired"] == ["db_app_password"]
    assert (directory / "db_app_password").stat().st_uid == 10101
