"""What is restricted to some names or ids, when these are more than a statement has parameters."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Final

import pytest
from sqlalchemy import Engine, event, insert

from ams_grpc.auth.ports import Grant
from ams_grpc.auth.principals import SHELL as ROOT
from ams_grpc.auth.records import Membership
from ams_grpc.auth.users import UserChanges
from ams_grpc.broker.catalog import SubscriptionConfig, TopicConfig
from ams_grpc.broker.names import SubscriptionName, TopicName
from ams_grpc.identity import NobodyHome, identity
from ams_grpc.storage import Storage
from ams_grpc.storage.tables import users
from tests.storage.world import DAY_US, ManualClock, publish, topic

MANY: Final = 70_000
ABSENT: Final = tuple(f"absent-{number}" for number in range(MANY))
SQLITE_TAKES: Final = 1_000
"""By default it is 32,766, but some distributions have many more."""
ODD: Final = "größe '\"\\😀"
"""An id that quotes and escapes in it would break."""


@pytest.fixture(autouse=True)
def few_parameters() -> Iterator[None]:
    def limit(dbapi: object, _record: object) -> None:
        if isinstance(dbapi, sqlite3.Connection):
            dbapi.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, SQLITE_TAKES)

    event.listen(Engine, "connect", limit)
    yield
    event.remove(Engine, "connect", limit)


async def make_lists(storage: Storage) -> None:
    """Topics a, b, c and an odd one, each with a subscription of its name; and those of a depot."""
    for project, number in (("depot", "a"), *(("shop", each) for each in ("a", "b", "c", ODD))):
        name = TopicName(project, number)
        await storage.catalog.create_topic(name, TopicConfig())
        await storage.catalog.create_subscription(
            SubscriptionName(project, number), name, SubscriptionConfig()
        )


async def test_lists_show_whatever_number_of_ids_they_are_restricted_to(storage: Storage) -> None:
    await make_lists(storage)
    allowed = ("a", "c", ODD, *ABSENT)
    for read in (storage.catalog.topics, storage.catalog.subscriptions):
        first = [each.name for each in await read("shop", "", 2, allowed)]
        assert [each.id for each in first] == ["a", "c"]
        assert [each.name.id for each in await read("shop", str(first[-1]), 2, allowed)] == [ODD]
        assert await read("shop", "", 2, ()) == []


async def test_lists_that_begin_with_the_newest_do_so_too(storage: Storage) -> None:
    await make_lists(storage)
    allowed = ("a", "c", ODD, *ABSENT)
    for read in (storage.newest.topics, storage.newest.subscriptions):
        first = await read("shop", allowed, None, 2)
        assert [each.resource.name.id for each in first.items] == [ODD, "c"]
        last = await read("shop", allowed, first.next_start, 2)
        assert [each.resource.name.id for each in last.items] == ["a"]
        assert (first.total, last.total, last.next_start) == (3, 3, None)
        nothing = await read("shop", (), None, None)
        assert (nothing.items, nothing.total) == ([], 0)


async def test_a_report_on_many_projects(storage: Storage, clock: ManualClock) -> None:
    await identity(storage, clock, NobodyHome()).projects.create(ROOT, "shop")
    await publish(storage, await topic(storage), b"a")
    today = clock.us // DAY_US
    [found] = await storage.figures.period(("shop", *ABSENT), today, today)
    assert (found.project, found.messages) == ("shop", 1)


async def test_access_lists_of_many_projects(storage: Storage, clock: ManualClock) -> None:
    known = identity(storage, clock, NobodyHome())
    await known.projects.create(ROOT, "shop")
    member = UserChanges(memberships=(Membership("shop", ("publisher",)),))
    user = await known.users.create(ROOT, "pat", member)
    orders = await topic(storage)
    await known.access_lists.replace(ROOT, orders.name, ["pat"])
    grants = await storage.accounts.grants(("shop", *ABSENT))
    assert grants == [Grant("shop", "topics", "orders", (user.uuid,))]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # on others it takes many more
async def test_a_list_of_many_users(storage: Storage) -> None:
    names = ABSENT[: 2 * SQLITE_TAKES]
    rows = [
        dict.fromkeys(("email", "first_name", "last_name", "organization", "description"), "")
        | {"uuid": name, "name": name, "token_digest": name.encode(), "sealed_token": b""}
        | {"service_roles": "[]", "created_us": 0, "modified_us": 0, "created_by": ""}
        for name in names
    ]
    await storage.commits.run(lambda connection: connection.execute(insert(users), rows))
    found = await storage.accounts.users(None, None, None)
    assert [each.name for each in reversed(found)] == list(names)
