"""/api/v1/users: oneself, and those of one's documents; and the name that a user gives itself."""

from uuid import uuid4

import psycopg
import pytest
from starlette.testclient import TestClient


def test_a_user_names_itself(api: TestClient, database: psycopg.Connection, user_id: str, username: str) -> None:
    headers = {"X-Principal-Id": user_id}
    for number, name in enumerate(["Ada", "Grace Hopper 💾"], start=2):
        answer = api.patch(f"/api/v1/users/{user_id}", json={"display_name": name}, headers=headers)
        assert (answer.status_code, answer.json()) == (200, {"id": user_id, "username": username, "display_name": name})
        assert api.get(f"/api/v1/users/{user_id}", headers=headers).json() == answer.json()
        event = database.execute(
            "SELECT type, payload, principal_id::text FROM events WHERE stream_id = %s AND stream_version = %s", (user_id, number)
        ).fetchone()
        assert event == ("user.updated", {"display_name": name}, user_id)


def test_nobody_names_another(api: TestClient, user_id: str) -> None:
    stranger = {"X-Principal-Id": str(uuid4())}
    for target in (user_id, str(uuid4())):
        answer = api.patch(f"/api/v1/users/{target}", json={"display_name": "Eve"}, headers=stranger)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
    assert api.get(f"/api/v1/users/{user_id}", headers={"X-Principal-Id": user_id}).json()["display_name"] is None


def test_whom_we_do_not_know_has_no_name_to_change(api: TestClient) -> None:
    """Such as a principal of an issuer that is not ours."""
    unknown = str(uuid4())
    headers = {"X-Principal-Id": unknown}
    assert api.patch(f"/api/v1/users/{unknown}", json={"display_name": "Eve"}, headers=headers).status_code == 404
    assert api.get(f"/api/v1/users/{unknown}", headers=headers).status_code == 404


@pytest.mark.requirement("SEC-10")
@pytest.mark.parametrize(
    "body",
    [{}, {"display_name": ""}, {"display_name": None}, {"display_name": 7}, {"display_name": "a" * 101},
     {"display_name": "line\nfeed"}, {"display_name": "\u200b"}, {"display_name": "a", "username": "root"}],
)  # fmt: skip
def test_names_that_no_list_could_show_are_refused(api: TestClient, user_id: str, body: dict[str, object]) -> None:
    answer = api.patch(f"/api/v1/users/{user_id}", json=body, headers={"X-Principal-Id": user_id})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "validation_error")
