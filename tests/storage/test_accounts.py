"""Accounts as they are used, on what is really stored: AMS's checks, in its order and words."""

from __future__ import annotations

import asyncio
import logging
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import Connection, select

from ams_grpc.auth import audit
from ams_grpc.auth.access_lists import MAX_USERS
from ams_grpc.auth.checks import MAX_TEXT_CHARS
from ams_grpc.auth.principals import Principal
from ams_grpc.auth.records import Membership, Person, RegistrationStatus, User
from ams_grpc.auth.users import UserChanges, seen_by
from ams_grpc.broker import errors
from ams_grpc.broker.catalog import SubscriptionConfig, TopicConfig
from ams_grpc.broker.iam import Binding, Condition
from ams_grpc.broker.names import SchemaName, SnapshotName, SubscriptionName, TopicName
from ams_grpc.broker.policies import DeadLetterPolicy, SchemaSettings
from ams_grpc.broker.schemas import Definition, SchemaType
from ams_grpc.identity import Identity, first_admin, identity
from ams_grpc.storage import Storage
from ams_grpc.storage.tables import projects, users
from tests.storage.world import DAY_US, ManualClock, publish, snapshot, subscription, topic

T = TypeVar("T")
ROOT = Principal("", "root", frozenset({"service_admin"}))
ORDERS, BILLING = TopicName("shop", "orders"), SubscriptionName("shop", "billing")


class Housing:
    """Remembers what it is told of projects."""

    def __init__(self) -> None:
        self.told: list[tuple[str, ...]] = []

    async def moved(self, old: str, new: str, _subscription_ids: Sequence[int]) -> None:
        self.told.append(("moved", old, new))

    async def removed(self, project: str, _subscription_ids: Sequence[int]) -> None:
        self.told.append(("removed", project))


@pytest.fixture
def housing() -> Housing:
    return Housing()


@pytest.fixture
def known(storage: Storage, clock: ManualClock, housing: Housing) -> Identity:
    return identity(storage, clock, housing)


@pytest.fixture(autouse=True)
async def shop(known: Identity) -> None:
    await known.projects.create(ROOT, "shop", "orders and invoices")


async def make(known: Identity, name: str, *roles: str, project: str = "shop") -> User:
    entries = (Membership(project, roles),)
    return await known.users.create(ROOT, name, UserChanges(memberships=entries))


async def caller(known: Identity, user: User) -> Principal:
    return await known.authenticator.identify(known.users.token(user), "test")


# --- users ----------------------------------------------------------------------------------------


async def test_a_user_is_stored_with_all_there_is_to_know(
    known: Identity, clock: ManualClock
) -> None:
    person = Person("pat@example.org", "Pat", "Doe", "Example", "größe '\"")
    wanted = UserChanges(
        person=person,
        memberships=(Membership("", ("publisher",)), Membership("shop", ("publisher",))),
        service_roles=("metrics_viewer",),
    )
    created = await known.users.create(ROOT, "pat", wanted)
    found = await known.users.get("pat")

    assert found == created
    assert found.person == person
    assert found.memberships == (Membership("shop", ("publisher",)),)
    assert found.service_roles == ("metrics_viewer",)
    assert found.created_us == found.modified_us == clock.now_us()
    token = known.users.token(found)
    assert len(token) == 64
    assert await known.users.by_token(token) == found
    assert await known.users.by_uuid(found.uuid) == found


async def test_nothing_that_is_stored_gives_a_token_away(known: Identity, storage: Storage) -> None:
    token = known.users.token(await make(known, "pat"))
    rows = await storage.readers.run(lambda connection: connection.execute(select(users)).all())
    assert len(rows) == 1
    assert token not in repr(rows)
    assert token.encode() not in b"".join(each for each in rows[0] if isinstance(each, bytes))


@pytest.mark.parametrize(
    "name, wanted, error, text",
    [
        ("a.b", UserChanges(), errors.InvalidArgument, "Invalid user name"),
        ("pat\n", UserChanges(), errors.InvalidArgument, "Invalid user name"),
        ("pat", UserChanges(service_roles=("x",)), errors.AlreadyExists, "User already exists"),
        (
            "new",
            UserChanges(memberships=(Membership("shop"), Membership("shop"))),
            errors.InvalidArgument,
            "duplicate reference of project shop",
        ),
        (
            "new",
            UserChanges(memberships=(Membership("none", ("x",)),), service_roles=("y",)),
            errors.InvalidArgument,
            "invalid project: none",
        ),
        (
            "new",
            UserChanges(memberships=(Membership("shop", ("x",)),), service_roles=("y",)),
            errors.InvalidArgument,
            "invalid role: x",
        ),
        ("new", UserChanges(service_roles=("y",)), errors.InvalidArgument, "invalid role: y"),
    ],
)
async def test_the_first_check_that_fails_answers(
    known: Identity, name: str, wanted: UserChanges, error: type[Exception], text: str
) -> None:
    await make(known, "pat")
    with pytest.raises(error) as caught:
        await known.users.create(ROOT, name, wanted)
    assert str(caught.value) == text


async def test_a_change_keeps_what_it_does_not_name(known: Identity, clock: ManualClock) -> None:
    before = await make(known, "pat", "publisher")
    await make(known, "zoe")
    clock.advance(DAY_US)
    after = await known.users.update(
        ROOT, "pat", UserChanges(name="patricia", person=Person(email="p@x"))
    )

    assert (after.name, after.uuid, after.person.email) == ("patricia", before.uuid, "p@x")
    assert after.memberships == before.memberships
    assert after.modified_us == before.modified_us + DAY_US
    assert known.users.token(after) == known.users.token(before)
    with pytest.raises(errors.NotFound, match=r"^User doesn't exist$"):
        await known.users.update(ROOT, "pat", UserChanges())
    with pytest.raises(errors.InvalidArgument, match="name already exists"):
        await known.users.update(ROOT, "patricia", UserChanges(name="zoe"))
    emptied = await known.users.update(ROOT, "patricia", UserChanges(memberships=()))
    assert emptied.memberships == ()


async def test_a_new_token_takes_the_place_of_the_old_at_once(known: Identity) -> None:
    pat = await make(known, "pat", "publisher")
    old = known.users.token(pat)
    assert (await known.authenticator.identify(old, "")).name == "pat"

    new = known.users.token(await known.users.refresh_token(ROOT, "pat"))

    assert new != old
    assert (await known.authenticator.identify(new, "")).name == "pat"
    with pytest.raises(errors.Unauthenticated):
        await known.authenticator.identify(old, "")
    with pytest.raises(errors.NotFound):
        await known.users.by_token(old)


async def test_the_token_of_a_deleted_user_is_unknown(known: Identity) -> None:
    pat = await make(known, "pat", "publisher")
    await caller(known, pat)
    await known.users.delete(ROOT, "pat")
    with pytest.raises(errors.Unauthenticated):
        await caller(known, pat)
    with pytest.raises(errors.NotFound):
        await known.users.delete(ROOT, "pat")


async def test_users_are_listed_newest_first_in_pages(known: Identity) -> None:
    await known.projects.create(ROOT, "other")
    for number in range(5):
        await make(known, f"u{number}", project="other" if number == 2 else "shop")

    page = await known.users.list(limit=2)
    assert [user.name for user in page.users] == ["u4", "u3"]
    assert page.total == 5
    page = await known.users.list(limit=3, start=page.next_start)
    assert [user.name for user in page.users] == ["u2", "u1", "u0"]
    assert page.next_start is None
    page = await known.users.list(project="shop")
    assert [user.name for user in page.users] == ["u4", "u3", "u1", "u0"]
    assert page.total == 4
    with pytest.raises(errors.NotFound, match=r"^ProjectUUID doesn't exist$"):
        await known.users.list(project="none")


async def test_who_made_a_user_is_shown_by_the_present_name(known: Identity) -> None:
    alice = await make(known, "alice", "project_admin")
    await known.users.create(await caller(known, alice), "pat", UserChanges())
    await known.users.update(ROOT, "alice", UserChanges(name="alicia"))
    assert (await known.users.get("pat")).created_by == "alicia"
    await known.users.delete(ROOT, "alicia")
    assert (await known.users.get("pat")).created_by == ""


async def test_changes_at_one_time_do_not_undo_each_other(known: Identity) -> None:
    for number in range(5):
        await known.projects.create(ROOT, f"p{number}")
    await make(known, "pat")
    await asyncio.gather(
        *(known.members.add(ROOT, f"p{number}", "pat", ["consumer"]) for number in range(5))
    )
    found = await known.users.get("pat")
    assert {each.project for each in found.memberships} == {"shop", "p0", "p1", "p2", "p3", "p4"}


# --- members --------------------------------------------------------------------------------------


async def test_members_come_change_and_go(known: Identity) -> None:
    await known.users.create(ROOT, "pat", UserChanges())
    added = await known.members.add(ROOT, "shop", "pat", ["publisher"])
    assert added.memberships == (Membership("shop", ("publisher",)),)
    with pytest.raises(errors.Conflict, match=r"^User is already a member of the project$"):
        await known.members.add(ROOT, "shop", "pat", ["nonsense"])

    wanted = UserChanges(memberships=(Membership("shop", ("consumer",)),))
    changed = await known.members.update(ROOT, "shop", "pat", wanted)
    assert changed.memberships == (Membership("shop", ("consumer",)),)
    with pytest.raises(errors.PermissionDenied, match=r"User is not a member of the project$"):
        await known.members.update(ROOT, "shop", "pat", UserChanges())

    await known.members.remove(ROOT, "shop", "pat")
    with pytest.raises(errors.PermissionDenied, match=r"User is not a member of the project$"):
        await known.members.remove(ROOT, "shop", "pat")
    with pytest.raises(errors.NotFound):
        await known.members.get(ROOT, "shop", "pat")
    with pytest.raises(errors.NotFound):
        await known.members.remove(ROOT, "shop", "nobody")


async def test_a_project_admin_sees_of_members_what_concerns_the_project(known: Identity) -> None:
    await known.projects.create(ROOT, "other")
    entries = (Membership("other", ("consumer",)), Membership("shop", ("publisher",)))
    wanted = UserChanges(memberships=entries, service_roles=("metrics_viewer",))
    await known.users.create(ROOT, "pat", wanted)
    alice = await caller(known, await make(known, "alice", "project_admin"))

    seen = await known.members.get(alice, "shop", "pat")

    assert seen.memberships == (Membership("shop", ("publisher",)),)
    assert (seen.token, seen.service_roles, seen.created_by) == (None, (), "")
    assert known.users.token(seen) == ""
    assert seen_by(ROOT, await known.users.get("pat")).token is not None
    made = await known.members.create(
        alice,
        "shop",
        "carl",
        UserChanges(
            person=Person("c@x", "Carl"),
            memberships=(Membership("other", ("consumer",)), Membership("shop", ("consumer",))),
            service_roles=("service_admin",),
        ),
    )
    assert made.memberships == (Membership("shop", ("consumer",)),)
    assert (made.service_roles, made.person) == ((), Person("c@x"))
    assert known.users.token(made)  # that is how its token gets to know


async def test_nobody_sees_tokens_by_making_themselves_an_administrator_of_a_project(
    known: Identity,
) -> None:
    await known.users.create(ROOT, "boss", UserChanges(service_roles=("service_admin",)))
    alice = await make(known, "alice", "project_admin", "service_admin")
    await known.members.add(await caller(known, alice), "shop", "boss")

    seen = await known.members.get(await caller(known, alice), "shop", "boss")

    assert seen.token is None
    assert seen.service_roles == ()


# --- access lists and policies -----------------------------------------------------------------------


async def test_an_access_list_and_a_policy_are_one_thing(known: Identity, storage: Storage) -> None:
    orders = await topic(storage)
    await subscription(storage, orders)
    for name in ("pat", "zoe"):
        await make(known, name)
    domain = Binding("roles/pubsub.publisher", ("domain:example.org",))
    sometimes = Binding("roles/pubsub.publisher", ("user:zoe",), Condition("false"))
    await known.policies.set(ORDERS, [domain, sometimes], version=3)

    await known.access_lists.replace(ROOT, ORDERS, ["pat", "zoe"])

    assert await known.access_lists.get(ORDERS) == ["pat", "zoe"]
    policy = await known.policies.get(ORDERS, 3)
    assert policy.bindings == (
        sometimes,
        Binding("roles/pubsub.publisher", ("domain:example.org", "user:pat", "user:zoe")),
    )
    await known.policies.set(BILLING, [Binding("roles/pubsub.subscriber", ("user:pat",))])
    assert await known.access_lists.get(BILLING) == ["pat"]
    assert (await known.users.get("pat")).memberships == (
        Membership("shop", (), ("orders",), ("billing",)),
    )
    await known.access_lists.replace(ROOT, ORDERS, [])
    assert await known.access_lists.get(ORDERS) == []
    assert (await known.policies.get(ORDERS)).bindings[-1] == domain


async def test_a_new_name_shows_at_once_and_the_next_of_that_name_inherits_nothing(
    known: Identity, storage: Storage
) -> None:
    await topic(storage)
    await make(known, "pat", "publisher")
    await known.access_lists.replace(ROOT, ORDERS, ["pat"])
    await known.users.update(ROOT, "pat", UserChanges(name="patricia"))
    assert await known.access_lists.get(ORDERS) == ["patricia"]
    assert (await known.policies.get(ORDERS)).bindings[0].members == ("user:patricia",)

    await known.users.delete(ROOT, "patricia")
    await make(known, "patricia", "publisher")

    assert await known.access_lists.get(ORDERS) == []
    assert (await known.policies.get(ORDERS)).bindings == ()


async def test_only_members_get_on_a_list_and_only_users_into_a_policy(
    known: Identity, storage: Storage
) -> None:
    await topic(storage)
    await make(known, "pat")
    await known.users.create(ROOT, "zoe", UserChanges())
    with pytest.raises(errors.NotFound, match=r"^User\(s\): zoe, yan do not exist$"):
        await known.access_lists.check_members(ORDERS.project, ["zoe", "pat", "yan"])
    await known.projects.create(ROOT, "depot")
    with pytest.raises(errors.NotFound, match=r"^User\(s\): pat do not exist$"):
        await known.access_lists.check_members("depot", ["pat"])
    with pytest.raises(errors.NotFound):
        await known.access_lists.replace(ROOT, TopicName("shop", "none"), ["pat"])
    with pytest.raises(errors.InvalidArgument, match="unknown member user:yan"):
        await known.policies.set(ORDERS, [Binding("roles/pubsub.viewer", ("user:yan",))])


async def test_a_long_access_list_is_checked_at_once_and_a_longer_one_not_at_all(
    known: Identity, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await topic(storage)
    await make(known, "pat")
    reads = 0
    read = storage.readers.run

    async def counted(query: Callable[[Connection], T]) -> T:
        nonlocal reads
        reads += 1
        return await read(query)

    monkeypatch.setattr(storage.readers, "run", counted)
    longest = ["pat", *(f"nobody-{number}" for number in range(MAX_USERS - 1))]
    with pytest.raises(errors.NotFound, match="nobody-0, nobody-1, "):
        await known.access_lists.check_members("shop", longest)
    await known.access_lists.check_members("shop", ["pat"] * MAX_USERS)
    assert reads == 2
    with pytest.raises(errors.InvalidArgument, match="at most 1500 users"):
        await known.access_lists.check_members("shop", ["pat"] * (MAX_USERS + 1))
    assert reads == 2


async def test_rights_follow_every_change_at_once(known: Identity, storage: Storage) -> None:
    await topic(storage)
    pat = await make(known, "pat", "publisher")

    async def may() -> bool:
        try:
            who = await caller(known, pat)
            await known.authorizer.check(who, "pubsub.topics.publish", ORDERS)
        except errors.PermissionDenied:
            return False
        return True

    assert not await may()
    await known.access_lists.add(ROOT, ORDERS, "pat")
    assert await may()
    await known.access_lists.remove(ROOT, ORDERS, "pat")
    assert not await may()
    await known.access_lists.add(ROOT, ORDERS, "pat")
    await known.members.remove(ROOT, "shop", "pat")
    assert not await may()
    await known.members.add(ROOT, "shop", "pat")
    assert await may()
    await known.projects.delete(ROOT, "shop")
    assert not await may()


# --- projects -------------------------------------------------------------------------------------


async def test_projects_are_made_once_and_described(known: Identity) -> None:
    assert (await known.projects.get("shop")).description == "orders and invoices"
    with pytest.raises(errors.AlreadyExists, match=r"^Project already exists$"):
        await known.projects.create(ROOT, "shop")
    with pytest.raises(errors.InvalidArgument, match=r"^Invalid project name$"):
        await known.projects.create(ROOT, "a/b")
    with pytest.raises(errors.NotFound, match=r"^project doesn't exist$"):
        await known.projects.get("none")
    await known.projects.create(ROOT, "depot")
    assert [each.name for each in await known.projects.list()] == ["shop", "depot"]
    with pytest.raises(errors.InvalidArgument, match="name already exists"):
        await known.projects.update(ROOT, "depot", new_name="shop")
    described = await known.projects.update(ROOT, "depot", description="parcels")
    assert (described.name, described.description) == ("depot", "parcels")


async def test_a_project_is_renamed_with_all_that_is_in_it(
    known: Identity, storage: Storage, housing: Housing, clock: ManualClock
) -> None:
    orders = await topic(storage)
    dead = await topic(storage, "dead")
    billing = await subscription(storage, orders, dead_letter=DeadLetterPolicy(dead.name))
    other = await storage.catalog.create_topic(TopicName("other", "x"), orders.config)
    far = await storage.catalog.create_subscription(
        SubscriptionName("other", "far"),
        other.name,
        SubscriptionConfig(dead_letter=DeadLetterPolicy(dead.name)),
    )
    await snapshot(storage, billing, expire_us=clock.now_us() + DAY_US)
    await publish(storage, orders, b"before")
    pat = await make(known, "pat", "publisher")
    await known.access_lists.add(ROOT, ORDERS, "pat")

    order = await storage.schemas.create_schema(
        SchemaName("shop", "order"), Definition(SchemaType.AVRO, '"string"')
    )
    using = TopicConfig(schema_settings=SchemaSettings(order.name, schema_id=order.id))
    invoices = await storage.catalog.create_topic(TopicName("other", "invoices"), using)

    await known.projects.update(ROOT, "shop", new_name="store")

    renamed_schema = await storage.schemas.schema(SchemaName("store", "order"))
    assert renamed_schema.id == order.id
    settings = (await storage.catalog.topic(invoices.name)).config.schema_settings
    assert settings == SchemaSettings(renamed_schema.name, schema_id=order.id)
    catalog = storage.catalog
    renamed = await catalog.topic(TopicName("store", "orders"))
    assert renamed.id == orders.id
    assert await storage.log.next_seq(renamed.id) == 1
    moved = await catalog.subscription(SubscriptionName("store", "billing"))
    assert (moved.id, moved.topic_name) == (billing.id, renamed.name)
    for each in (moved, await catalog.subscription(far.name)):
        assert each.config.dead_letter == DeadLetterPolicy(TopicName("store", "dead"))
    assert (await catalog.snapshot(SnapshotName("store", "before"))).topic_name == renamed.name
    with pytest.raises(errors.NotFound):
        await catalog.topic(ORDERS)
    assert [each.name.id for each in await catalog.topics("store", "", 10)] == ["dead", "orders"]
    with pytest.raises(errors.Aborted):  # whoever has the old record must look again
        await storage.commits.append(orders, b"late", 1)
    assert housing.told == [("moved", "shop", "store")]
    assert (await known.users.get("pat")).memberships == (
        Membership("store", ("publisher",), ("orders",), ()),
    )
    who = await caller(known, pat)
    await known.authorizer.check(who, "pubsub.topics.publish", renamed.name)


async def test_a_rename_onto_something_that_is_there_changes_nothing(
    known: Identity, storage: Storage
) -> None:
    orders = await topic(storage)
    await storage.catalog.create_topic(TopicName("store", "orders"), orders.config)
    with pytest.raises(errors.InvalidArgument, match="name already exists"):
        await known.projects.update(ROOT, "shop", new_name="store")
    assert (await known.projects.get("shop")).name == "shop"
    assert (await storage.catalog.topic(ORDERS)).id == orders.id


async def test_only_a_service_admin_takes_over_what_nobody_has_registered(
    known: Identity, storage: Storage
) -> None:
    catalog = storage.catalog
    made = await catalog.create_topic(TopicName("ghost-1", "old"), TopicConfig())
    queue = await catalog.create_subscription(
        SubscriptionName("ghost-2", "old"), made.name, SubscriptionConfig()
    )
    await catalog.create_snapshot(
        SnapshotName("ghost-3", "old"), queue, await catalog.cursor(queue), DAY_US, {}
    )
    await storage.schemas.create_schema(
        SchemaName("ghost-4", "old"), Definition(SchemaType.AVRO, '"string"')
    )
    gone = await catalog.create_topic(TopicName("free", "old"), TopicConfig())
    await catalog.delete_topic(gone)
    admin = Principal("u", "alice", frozenset(), {"shop": frozenset({"service_admin"})})
    for taken in ("ghost-1", "ghost-2", "ghost-3", "ghost-4"):
        with pytest.raises(errors.InvalidArgument, match="name already exists"):
            await known.projects.update(admin, "shop", new_name=taken)
    assert (await known.projects.get("shop")).name == "shop"
    assert (await known.projects.update(admin, "shop", new_name="free")).name == "free"
    assert (await known.projects.update(ROOT, "free", new_name="ghost-1")).name == "ghost-1"


async def test_a_project_goes_with_all_that_is_in_it(
    known: Identity, storage: Storage, housing: Housing, clock: ManualClock
) -> None:
    orders = await topic(storage)
    billing = await subscription(storage, orders)
    far = await storage.catalog.create_subscription(
        SubscriptionName("other", "far"), orders.name, SubscriptionConfig()
    )
    await snapshot(storage, billing, expire_us=clock.now_us() + DAY_US)
    await make(known, "pat", "publisher")

    order = await storage.schemas.create_schema(
        SchemaName("shop", "order"), Definition(SchemaType.AVRO, '"string"')
    )
    using = TopicConfig(schema_settings=SchemaSettings(order.name, schema_id=order.id))
    invoices = await storage.catalog.create_topic(TopicName("other", "invoices"), using)

    await known.projects.delete(ROOT, "shop")

    with pytest.raises(errors.NotFound):
        await storage.schemas.schema(order.name)
    settings = (await storage.catalog.topic(invoices.name)).config.schema_settings
    assert settings is not None
    assert settings.schema is None
    with pytest.raises(errors.Aborted):  # its publishers must look again
        await storage.commits.append(invoices, b"late", 1)
    assert await known.projects.list() == []
    for kind in ("topics", "subscriptions", "snapshots"):
        assert not await getattr(storage.catalog, kind)("shop", "", 10)
    assert (await storage.catalog.subscription(far.name)).topic_name is None
    assert (await known.users.get("pat")).memberships == ()
    assert housing.told == [("removed", "shop")]
    with pytest.raises(errors.NotFound):
        await known.projects.delete(ROOT, "shop")
    await known.projects.create(ROOT, "shop")  # another one
    assert (await known.users.get("pat")).memberships == ()


# --- registrations --------------------------------------------------------------------------------


async def test_a_registration_becomes_a_user(known: Identity, clock: ManualClock) -> None:
    person = Person("n@x", "New", "Bie", "Example", "wants orders")
    filed = await known.registrations.file(ROOT, "newbie", person)
    token = known.registrations.activation_token(filed)
    assert len(token) == 64
    assert [each.uuid for each in await known.registrations.list(activation_token=token)] == [
        filed.uuid
    ]
    assert await known.registrations.list(status="accepted") == []
    admin = await known.users.create(ROOT, "boss", UserChanges(service_roles=("service_admin",)))
    clock.advance(DAY_US)

    user = await known.registrations.accept(await caller(known, admin), filed.uuid)

    assert (user.name, user.person, user.memberships) == ("newbie", person, ())
    assert known.users.token(user)
    decided = await known.registrations.get(filed.uuid)
    assert decided.status is RegistrationStatus.ACCEPTED
    assert (decided.modified_by, decided.activation_token) == ("boss", None)
    for decide in (known.registrations.accept, known.registrations.decline):
        with pytest.raises(errors.NotFound, match=r"^User registration doesn't exist$"):
            await decide(ROOT, filed.uuid)


async def test_a_registration_is_declined_or_removed(known: Identity) -> None:
    filed = await known.registrations.file(ROOT, "newbie", Person())
    again = await known.registrations.file(ROOT, "newbie", Person())
    await known.registrations.decline(ROOT, filed.uuid, "unknown organization")
    declined = await known.registrations.get(filed.uuid)
    assert declined.status is RegistrationStatus.DECLINED
    assert declined.decline_comment == "unknown organization"
    await known.registrations.accept(ROOT, again.uuid)
    with pytest.raises(errors.AlreadyExists, match=r"^User already exists$"):
        await known.registrations.file(ROOT, "newbie", Person())
    await known.registrations.delete(ROOT, filed.uuid)
    with pytest.raises(errors.NotFound):
        await known.registrations.delete(ROOT, filed.uuid)


# --- the first administrator ------------------------------------------------------------------------


async def test_the_first_administrator_is_made_once(known: Identity, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("left over")
    file.chmod(0o644)
    made = await first_admin(known, file=file)

    assert made is not None
    assert made.token == ""
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    principal = await known.authenticator.identify(file.read_text().strip(), "")
    assert principal.name == "admin"
    assert principal.service_roles == {"service_admin"}
    assert await first_admin(known, token="x" * 32) is None
    await known.users.update(ROOT, "admin", UserChanges(service_roles=()))
    another = await first_admin(known)
    assert another is not None
    assert another.name.startswith("admin-")
    assert another.token not in repr(another)
    assert (await known.authenticator.identify(another.token, "")).sees_all


async def test_a_given_token_is_that_of_the_first_administrator(known: Identity) -> None:
    made = await first_admin(known, token="x" * 40)
    assert made is not None
    assert made.token == ""
    assert (await known.authenticator.identify("x" * 40, "")).name == "admin"


# --- the audit log ----------------------------------------------------------------------------------


async def test_every_change_is_in_the_audit_log_and_no_secret(
    known: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    alice = await make(known, "alice", "project_admin")
    with caplog.at_level(logging.DEBUG):
        refreshed = await known.users.refresh_token(await caller(known, alice), "alice")
    entry = [each for each in caplog.records if each.name == "ams_grpc.audit"][-1]
    assert {"actor": "alice", "action": "users:refreshToken", "resource": "alice"}.items() <= (
        vars(entry).items()
    )
    assert vars(entry)["actor_uuid"] == alice.uuid
    for token in (known.users.token(alice), known.users.token(refreshed)):
        assert token not in caplog.text


async def test_the_audit_log_says_what_was_given(
    known: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    with caplog.at_level(logging.INFO):
        await known.projects.create(ROOT, "depot")
        await make(known, "alice", "publisher")
        rights = UserChanges(name="bob", service_roles=("service_admin",))
        await known.users.update(ROOT, "alice", rights)
        await known.members.add(ROOT, "depot", "bob", ["consumer", "publisher"])
        await known.projects.update(ROOT, "depot", new_name="store")
    said = [each.getMessage() for each in caplog.records if each.name == "ams_grpc.audit"]
    assert said == [
        "root projects:create depot",
        "root users:create alice (projects=shop:publisher)",
        "root users:update alice (name=bob service_roles=service_admin)",
        "root projects:addUser depot/bob (roles=consumer,publisher)",
        "root projects:update depot (name=store)",
    ]


async def test_texts_of_accounts_have_an_end_and_roles_count_once(known: Identity) -> None:
    await known.projects.create(ROOT, "depot")
    long, most = "x" * (MAX_TEXT_CHARS + 1), "x" * MAX_TEXT_CHARS
    for field in ("email", "first_name", "last_name", "organization", "description"):
        person = Person(**{field: long})
        with pytest.raises(errors.InvalidArgument, match=field):
            await known.users.create(ROOT, "alice", UserChanges(person=person))
        with pytest.raises(errors.InvalidArgument, match=field):
            await known.registrations.file(ROOT, "alice", person)
    with pytest.raises(errors.InvalidArgument, match="email"):
        await known.members.create(ROOT, "depot", "alice", UserChanges(person=Person(email=long)))
    for change in (
        known.projects.create(ROOT, "store", long),
        known.projects.update(ROOT, "depot", description=long),
    ):
        with pytest.raises(errors.InvalidArgument, match="description"):
            await change
    await known.users.create(ROOT, "alice", UserChanges(person=Person(email=most)))
    added = await known.members.add(ROOT, "depot", "alice", ["consumer"] * 1000)
    assert [each.roles for each in added.memberships] == [("consumer",)]
    rights = UserChanges(service_roles=["service_admin", "service_admin"])
    assert (await known.users.update(ROOT, "alice", rights)).service_roles == ("service_admin",)


def test_no_name_makes_a_line_of_its_own_in_the_audit_log(caplog: pytest.LogCaptureFixture) -> None:
    audit.record(ROOT, "topics:create", "projects/größe/topics/x\nadmin\u2028\x1b[2Jusers:delete")

    [entry] = caplog.records
    assert entry.getMessage() == (
        "root topics:create projects/größe/topics/x\\nadmin\\u2028\\x1b[2Jusers:delete"
    )


async def test_projects_have_a_uuid_of_their_own(known: Identity, storage: Storage) -> None:
    await known.projects.create(ROOT, "depot")
    rows = await storage.readers.run(lambda connection: connection.execute(select(projects)).all())
    assert len({row.uuid for row in rows}) == 2
