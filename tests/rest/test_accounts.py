"""Projects, users, members and registrations over REST, as AMS has them."""

from __future__ import annotations

import secrets

import pytest

from tests.rest.conftest import ROOT_TOKEN, Ams, Town

DATED = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


def fresh(name: str) -> str:
    return f"{name}-{secrets.token_hex(4)}"


# --- the order of checks -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "path, token, refusal",
    [
        ("/projects/A.B/topics", None, (400, "INVALID_ARGUMENT", "Invalid project name")),
        ("/projects/NOPE/topics", None, (401, "UNAUTHORIZED", "Unauthorized")),
        ("/projects/NOPE/topics", "garbage", (404, "NOT_FOUND", "project doesn't exist")),
        ("/projects/{p}/topics", "garbage", (401, "UNAUTHORIZED", "Unauthorized")),
        (
            "/projects/{p}/topics",
            "carl",
            (403, "FORBIDDEN", "Access to this resource is forbidden"),
        ),
        ("/users", "alice", (401, "UNAUTHORIZED", "Unauthorized")),
        ("/projects/{p}/topics/T:foo", "alice", (400, "INVALID_ARGUMENT", "Invalid topic name")),
        ("/registrations/X:accept", ROOT_TOKEN, (400, "INVALID_ARGUMENT", "Invalid uuid name")),
    ],
)
def test_the_first_check_that_fails_answers(
    town: Town, path: str, token: str | None, refusal: tuple[int, str, str]
) -> None:
    token = town.tokens.get(token or "", token)

    assert town.ams.refused("GET", path.format(p=town.project), token) == refusal


def test_a_user_of_another_project_is_unknown(town: Town, ams: Ams) -> None:
    other = fresh("OTHER")
    ams.ok("POST", f"/projects/{other}", json={})

    assert ams.refused("GET", f"/projects/{other}/topics", town.tokens["alice"])[0] == 401


@pytest.mark.parametrize("path", ["/nothing", "/projects/P/topics/", "/projects/P/x/y"])
def test_an_unknown_path_is_answered_in_text(ams: Ams, path: str) -> None:
    reply = ams.call("GET", path)

    assert (reply.status_code, reply.text) == (404, "404 page not found\n")
    assert reply.headers["X-Content-Type-Options"] == "nosniff"


def test_a_wrong_method_is_an_unknown_path(ams: Ams) -> None:
    assert ams.call("POST", "/users").status_code == 404
    assert ams.call("PATCH", "/users/x").status_code == 404


def test_a_path_that_is_not_clean_is_redirected(ams: Ams) -> None:
    reply = ams.call("GET", "/projects//P/./topics")

    assert (reply.status_code, reply.headers["Location"]) == (301, "/v1/projects/P/topics")


def test_a_colon_may_be_encoded(town: Town) -> None:
    topic = town.path("/topics/orders")
    town.ams.ok("PUT", topic)

    assert town.ams.ok("GET", f"{topic}%3Aacl") == {"authorized_users": []}


def test_the_token_may_be_in_the_query(town: Town) -> None:
    path = town.path(f"/topics?key={town.tokens['alice']}")

    assert town.ams.ok("GET", path, None)["topics"] == []


# --- projects ----------------------------------------------------------------------------------


def test_a_project_is_made_shown_changed_and_deleted(ams: Ams) -> None:
    name, renamed = fresh("P"), fresh("Q")

    made = ams.ok("POST", f"/projects/{name}", json={"description": "orders", "name": "ignored"})
    assert list(made) == ["name", "created_on", "modified_on", "created_by", "description"]
    assert made["name"] == name
    assert made["created_by"] == "admin"
    assert ams.ok("GET", f"/projects/{name}") == made
    assert made in ams.ok("GET", "/projects")["projects"]
    assert ams.refused("POST", f"/projects/{name}", json={}) == (
        409,
        "ALREADY_EXISTS",
        "Project already exists",
    )
    changed = ams.ok("PUT", f"/projects/{name}", json={"name": renamed})
    assert (changed["name"], changed["description"]) == (renamed, "orders")
    assert ams.ok("DELETE", f"/projects/{renamed}") is None
    assert ams.refused("GET", f"/projects/{renamed}")[0] == 404


@pytest.mark.parametrize(
    "method, path, message, status",
    [
        ("POST", "/projects/new", "Invalid Project Arguments", "INVALID_ARGUMENT"),
        ("PUT", "/projects/{p}", "Invalid Request Body", "BAD_REQUEST"),
        ("POST", "/users/new", "Invalid User Arguments", "INVALID_ARGUMENT"),
        ("POST", "/projects/{p}/members/new", "Invalid User Arguments", "INVALID_ARGUMENT"),
        ("POST", "/registrations", "Invalid User Arguments", "INVALID_ARGUMENT"),
        ("PUT", "/projects/{p}/topics/new", "Invalid Request Body", "BAD_REQUEST"),
        (
            "POST",
            "/projects/{p}/topics/new:modifyAcl",
            "Invalid Topic ACL Arguments",
            "INVALID_ARGUMENT",
        ),
    ],
)
@pytest.mark.parametrize("body", ["x", "[]", '{"description": 5, "name": 5, "email": 5}{', "1"])
def test_a_bad_body_is_refused_in_the_words_of_its_route(
    town: Town, method: str, path: str, message: str, status: str, body: str
) -> None:
    refusal = town.ams.refused(method, path.format(p=town.project), body=body)

    assert refusal == (400, status, message)


def test_a_bad_body_of_a_stranger_is_not_looked_at(town: Town) -> None:
    path = town.path("/members/new")

    assert town.ams.refused("POST", path, "garbage", body="x")[0] == 401
    assert town.ams.refused("POST", path, town.tokens["carl"], body="x")[0] == 403


def test_keys_count_whatever_their_case_and_null_is_no_value(ams: Ams) -> None:
    name = fresh("P")
    body = '{"DESCRIPTION": "loud", "description": null, "other": [1]}'

    assert ams.ok("POST", f"/projects/{name}", body=body).get("description") is None
    body = '{"Description": "loud"}'
    assert ams.ok("PUT", f"/projects/{name}", body=body)["description"] == "loud"


def test_what_is_no_utf8_becomes_the_replacement_character(ams: Ams) -> None:
    name = fresh("P")
    body = b'{"description": "a\xffb \\ud800c"}'

    assert ams.ok("POST", f"/projects/{name}", body=body)["description"] == "a\ufffdb \ufffdc"


def test_characters_that_html_knows_are_written_by_their_numbers(ams: Ams) -> None:
    name = fresh("P")
    reply = ams.call("POST", f"/projects/{name}", json={"description": "<a&b>\u2028"})

    assert b"\\u003ca\\u0026b\\u003e\\u2028" in reply.content
    assert reply.content.startswith(b'{\n   "name"')
    assert reply.headers["Content-Type"] == "application/json; charset=utf-8"


# --- users -------------------------------------------------------------------------------------


def test_a_user_is_made_shown_changed_and_deleted(ams: Ams, town: Town) -> None:
    name, renamed = fresh("alice"), fresh("alicia")
    made = ams.ok(
        "POST",
        f"/users/{name}",
        json={
            "projects": [{"project": town.project, "roles": ["project_admin"]}],
            "email": "alice@example.org",
            "first_name": "Alice",
        },
    )
    assert list(made) == [
        "uuid", "projects", "name", "first_name", "token", "email", "service_roles", "created_on",
        "modified_on", "created_by",
    ]  # fmt: skip
    assert made["projects"] == [
        {
            "project": town.project,
            "roles": ["project_admin"],
            "topics": [],
            "subscriptions": [],
        }
    ]
    assert len(made["token"]) == 64
    assert ams.ok("GET", f"/users/{name}") == made
    assert ams.ok("GET", f"/users:byToken/{made['token']}") == made
    assert ams.ok("GET", f"/users:byUUID/{made['uuid']}") == made
    assert ams.ok("GET", "/users/profile", made["token"]) == made

    changed = ams.ok("PUT", f"/users/{name}", json={"name": renamed, "projects": []})
    assert changed["name"] == renamed
    assert "projects" not in changed
    assert changed["email"] == "alice@example.org"

    refreshed = ams.ok("POST", f"/users/{renamed}:refreshToken")
    assert refreshed["token"] != made["token"]
    assert ams.refused("GET", "/users/profile", made["token"])[0] == 401

    assert ams.ok("DELETE", f"/users/{renamed}") is None
    assert ams.refused("DELETE", f"/users/{renamed}") == (404, "NOT_FOUND", "User doesn't exist")


@pytest.mark.parametrize(
    "body, message",
    [
        ({"projects": [{"project": "X"}]}, "invalid project: X"),
        ({"projects": [{"project": "{p}", "roles": ["boss"]}]}, "invalid role: boss"),
        ({"projects": [{"project": "{p}"}] * 2}, "duplicate reference of project {p}"),
        ({"service_roles": ["boss"]}, "invalid role: boss"),
    ],
)
def test_a_user_that_cannot_be(town: Town, body: dict[str, object], message: str) -> None:
    for entry in body.get("projects", []):  # type: ignore[attr-defined]
        entry["project"] = entry["project"].replace("{p}", town.project)

    refusal = town.ams.refused("POST", f"/users/{fresh('u')}", json=body)

    assert refusal == (400, "INVALID_ARGUMENT", message.replace("{p}", town.project))


def test_users_come_in_pages_newest_first(town: Town) -> None:
    first = town.ams.ok("GET", f"/users?project={town.project}&pageSize=2&details=True")
    assert [each["name"] for each in first["users"]] == [town.names["carl"], town.names["pat"]]
    assert first["users"][0]["projects"][0]["roles"] == ["consumer"]
    assert first["totalSize"] == 3
    token = first["nextPageToken"]

    for name in ("pageToken", "nextPageToken"):
        last = town.ams.ok("GET", f"/users?project={town.project}&pageSize=2&{name}={token}")
        assert [each["name"] for each in last["users"]] == [town.names["alice"]]
        assert "projects" not in last["users"][0]
        assert (last["nextPageToken"], last["totalSize"]) == ("", 3)


@pytest.mark.parametrize(
    "query, refusal",
    [
        ("project=NOPE&pageSize=a", (404, "NOT_FOUND", "ProjectUUID doesn't exist")),
        ("pageSize=a&pageToken=!", (400, "INVALID_ARGUMENT", "Invalid page size")),
        ("pageSize=1.5", (400, "INVALID_ARGUMENT", "Invalid page size")),
        ("pageToken=abc", (400, "INVALID_ARGUMENT", "Invalid page token")),
        ("pageToken=YWJj", (400, "INVALID_ARGUMENT", "Invalid page token")),
    ],
)
def test_a_page_that_there_is_not(ams: Ams, query: str, refusal: tuple[int, str, str]) -> None:
    assert ams.refused("GET", f"/users?{query}") == refusal


# --- members -----------------------------------------------------------------------------------


def test_members(town: Town) -> None:
    alice, name = town.tokens["alice"], fresh("newbie")
    path = town.path(f"/members/{name}")
    made = town.ams.ok("POST", path, alice, json={"email": "n@example.org"})
    assert made["token"]
    assert made["created_by"] == town.names["alice"]
    assert town.ams.refused("POST", f"{path}:add", alice, json={}) == (
        409,
        "CONFLICT",
        "User is already a member of the project",
    )
    shown = town.ams.ok("GET", path, alice)
    assert list(shown) == [
        "uuid", "projects", "name", "email", "service_roles", "created_on", "modified_on",
    ]  # fmt: skip
    changed = town.ams.ok(
        "PUT", path, alice, json={"projects": [{"project": town.project, "roles": ["consumer"]}]}
    )
    assert changed["projects"][0]["roles"] == ["consumer"]
    assert town.ams.refused("PUT", path, alice, json={"projects": [{"project": "X"}]}) == (
        403,
        "FORBIDDEN",
        "Access to this resource is forbidden. User is not a member of the project",
    )
    listed = town.ams.ok("GET", town.path("/members?details=true"), alice)
    assert listed["totalSize"] == 4
    assert listed["users"][0] == changed

    removed = town.ams.call("POST", f"{path}:remove", alice)
    assert (removed.status_code, removed.text) == (200, "{}")
    assert town.ams.refused("GET", path, alice) == (404, "NOT_FOUND", "User doesn't exist")
    assert town.ams.refused("GET", town.path("/topics"), made["token"])[0] == 401
    assert town.ams.ok("POST", f"{path}:add", alice, json={"roles": ["publisher"]})["projects"]


def test_who_is_to_be_added_is_looked_up_before_the_body_is(town: Town) -> None:
    path = town.path("/members/nobody:add")

    assert town.ams.refused("POST", path, body="x") == (404, "NOT_FOUND", "User doesn't exist")


# --- registrations -----------------------------------------------------------------------------


def test_a_registration_is_accepted(ams: Ams) -> None:
    name = fresh("newbie")
    filed = ams.ok("POST", "/registrations", json={"name": name, "email": "n@example.org"})
    assert list(filed) == ["uuid", "name", "email", "status", "activation_token", "registered_at"]
    assert filed["status"] == "pending"
    query = f"/registrations?activation_token={filed['activation_token']}"
    assert ams.ok("GET", query) == {"user_registrations": [filed]}

    user = ams.ok("POST", f"/registrations/{filed['uuid']}:accept")
    assert (user["name"], user["created_by"]) == (name, "admin")
    decided = ams.ok("GET", f"/registrations/{filed['uuid']}")
    assert list(decided) == [
        "uuid", "name", "email", "status", "registered_at", "modified_by", "modified_at",
    ]  # fmt: skip
    assert decided["status"] == "accepted"
    assert ams.refused("POST", f"/registrations/{filed['uuid']}:accept") == (
        404,
        "NOT_FOUND",
        "User registration doesn't exist",
    )


def test_a_registration_is_declined_and_deleted(ams: Ams) -> None:
    filed = ams.ok("POST", "/registrations", json={"name": fresh("newbie")})
    path = f"/registrations/{filed['uuid']}"

    assert ams.refused("POST", f"{path}:decline", body='{"comment": 5}') == (
        400,
        "BAD_REQUEST",
        "Invalid Request Body",
    )
    declined = ams.call("POST", f"{path}:decline", json={"comment": "unknown organization"})
    assert (declined.status_code, declined.text) == (200, "{}")
    assert ams.ok("GET", path)["decline_comment"] == "unknown organization"
    assert ams.refused("POST", f"{path}:decline", body="x")[0] == 404
    assert ams.ok("DELETE", path) is None
    assert ams.refused("GET", path)[0] == 404
