"""Topics, subscriptions and access lists over REST, as AMS has them."""

from __future__ import annotations

import pytest

from tests.rest.conftest import Town


def test_a_topic_is_made_shown_and_deleted(town: Town) -> None:
    path, alice = town.path("/topics/t"), town.tokens["alice"]
    made = town.ams.ok("PUT", path, alice)
    assert list(made) == ["name", "created_on"]
    assert made["name"] == f"/projects/{town.project}/topics/t"
    assert town.ams.ok("GET", path, town.tokens["pat"]) == made
    assert town.ams.refused("PUT", path, body='{"name": "x"}') == (
        409,
        "ALREADY_EXISTS",
        "Topic already exists",
    )
    assert town.ams.ok("DELETE", path, alice) is None
    assert town.ams.refused("DELETE", path, alice) == (404, "NOT_FOUND", "Topic doesn't exist")


def test_a_subscription_is_made_shown_and_deleted(town: Town) -> None:
    town.ams.ok("PUT", town.path("/topics/orders"))
    path, alice = town.path("/subscriptions/billing"), town.tokens["alice"]
    topic = f"projects/{town.project}/topics/orders"

    made = town.ams.ok("PUT", path, alice, json={"topic": topic})
    created_on = made.pop("createdOn")
    assert made == {
        "name": f"/projects/{town.project}/subscriptions/billing",
        "topic": f"/{topic}",
        "pushConfig": {
            "type": "",
            "pushEndpoint": "",
            "maxMessages": 0,
            "authorizationHeader": {},
            "retryPolicy": {},
            "verificationHash": "",
            "verified": False,
            "mattermostUrl": "",
            "mattermostUsername": "",
            "mattermostChannel": "",
            "base64Decode": False,
        },
        "ackDeadlineSeconds": 10,
    }
    shown = town.ams.ok("GET", path, town.tokens["carl"])
    assert shown == made | {"createdOn": created_on}
    assert town.ams.ok("GET", town.path("/topics/orders/subscriptions"), alice) == {
        "subscriptions": [made["name"]]
    }
    assert town.ams.refused("PUT", path, alice, json={"topic": topic})[0] == 409
    assert town.ams.ok("DELETE", path, alice) is None
    assert town.ams.refused("DELETE", path, alice) == (
        404,
        "NOT_FOUND",
        "Subscription doesn't exist",
    )


@pytest.mark.parametrize(
    "topic, refusal",
    [
        ("orders", (400, "INVALID_ARGUMENT", "Invalid Topic name")),
        ("/projects/{p}/topics/orders", (400, "INVALID_ARGUMENT", "Invalid Topic name")),
        ("projects/{p}/x/orders", (400, "INVALID_ARGUMENT", "Invalid Topic name")),
        (
            "projects/{p}/topics/\0",
            (400, "INVALID_ARGUMENT", "Invalid topic: NUL is no character of a text"),
        ),
        (f"projects/{{p}}/topics/{'a' * 7000}", (404, "NOT_FOUND", "Topic doesn't exist")),
        ("projects/OTHER/topics/orders", (404, "NOT_FOUND", "Topic doesn't exist")),
        ("projects/{p}/topics/none", (404, "NOT_FOUND", "Topic doesn't exist")),
    ],
)
def test_a_subscription_needs_a_topic_of_its_project(
    town: Town, topic: str, refusal: tuple[int, str, str]
) -> None:
    town.ams.ok("PUT", town.path("/topics/orders"))
    body = {"topic": topic.replace("{p}", town.project)}

    assert town.ams.refused("PUT", town.path("/subscriptions/s"), json=body) == refusal


def test_lists_come_in_pages_newest_first(town: Town) -> None:
    for name in ("t1", "t2", "t3"):
        town.ams.ok("PUT", town.path(f"/topics/{name}"))

    def page(query: str) -> tuple[list[str], str, int]:
        reply = town.ams.ok("GET", town.path(f"/topics?{query}"))
        names = [each["name"].rpartition("/")[2] for each in reply["topics"]]
        return names, reply["nextPageToken"], reply["totalSize"]

    names, token, total = page("pageSize=2")
    assert (names, total) == (["t3", "t2"], 3)
    assert page(f"pageSize=2&pageToken={token}") == (["t1"], "", 3)
    assert page("pageSize=3") == (["t3", "t2", "t1"], "", 3)
    for everything in ("pageSize=0", "pageSize=-1", ""):
        assert page(everything) == (["t3", "t2", "t1"], "", 3)
    town.ams.ok("DELETE", town.path("/topics/t1"))
    assert page(f"pageToken={token}") == ([], "", 2)


# --- access lists ------------------------------------------------------------------------------


def test_access_lists(town: Town) -> None:
    town.ams.ok("PUT", town.path("/topics/orders"))
    path, alice, pat = town.path("/topics/orders"), town.tokens["alice"], town.names["pat"]

    unknown = {"authorized_users": [pat, "zoe", "yan"]}
    assert town.ams.refused("POST", f"{path}:modifyAcl", alice, json=unknown) == (
        404,
        "NOT_FOUND",
        "User(s): zoe, yan do not exist",
    )
    assert town.ams.refused("POST", f"{path}:modifyAcl", alice, json={}) == (
        400,
        "INVALID_ARGUMENT",
        "Invalid Topic ACL Arguments",
    )
    missing = town.path("/topics/none:modifyAcl")
    assert town.ams.refused("POST", missing, alice, json={"authorized_users": [pat]}) == (
        404,
        "NOT_FOUND",
        "Topic doesn't exist",
    )
    listed = {"authorized_users": [pat]}
    assert town.ams.ok("POST", f"{path}:modifyAcl", alice, json=listed) is None
    assert town.ams.ok("GET", f"{path}:acl", alice) == listed
    member = town.ams.ok("GET", town.path(f"/members/{pat}"), alice)
    assert member["projects"][0]["topics"] == ["orders"]

    town.ams.ok("DELETE", f"/users/{pat}")
    assert town.ams.ok("GET", f"{path}:acl", alice) == {"authorized_users": []}


def test_publishers_see_topics_whose_lists_have_them(town: Town) -> None:
    for name in ("mine", "others"):
        town.ams.ok("PUT", town.path(f"/topics/{name}"))
    pat = town.tokens["pat"]
    assert town.ams.ok("GET", town.path("/topics"), pat) == {
        "topics": [],
        "nextPageToken": "",
        "totalSize": 0,
    }
    users = {"authorized_users": [town.names["pat"]]}
    town.ams.ok("POST", town.path("/topics/mine:modifyAcl"), json=users)

    seen = town.ams.ok("GET", town.path("/topics"), pat)
    assert [each["name"] for each in seen["topics"]] == [f"/projects/{town.project}/topics/mine"]
    assert seen["totalSize"] == 1
