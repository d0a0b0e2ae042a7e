"""ams.v1.Subscriptions: pulling, acknowledging, and moving; with AMS's errors, word by word."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import Any, Final, cast

import pytest

from ams_grpc.auth.principals import Principal
from ams_grpc.broker.ams_push import AmsEndpoint, AmsPush
from ams_grpc.broker.catalog import SubscriptionConfig, TopicConfig
from ams_grpc.broker.errors import (
    AmsRefusal,
    BrokerError,
    InvalidArgument,
)
from ams_grpc.broker.policies import DAY_US, PushConfig
from ams_grpc.pb.ams.v1 import pubsub_pb2 as ams
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.services.ams.windows import Windows
from ams_grpc.services.callers import set_caller
from ams_grpc.services.frame import Calls, Context, local_calls
from ams_grpc.services.messages import decode, ordering_key, payload_of
from tests.unit.broker import world as worlds
from tests.unit.broker.fakes import ManualClock, Stored
from tests.unit.broker.world import ORDERS, TOPIC, World, begun

NAMES: Final[dict[str, Any]] = {"project": ORDERS.project, "subscription": ORDERS.id}
HEAD = f"projects/{ORDERS.project}/subscriptions/{ORDERS.id}:"
NOBODY = cast("Context", None)
HOOK = PushConfig("https://example.com/hook")
UNVERIFIED = AmsPush(AmsEndpoint("https://example.com/hook", "hash"))


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A topic as AMS's are, and a subscription; messages are Pub/Sub's."""
    monkeypatch.setattr(worlds, "decode", decode)
    monkeypatch.setattr(worlds, "encode", payload_of)
    monkeypatch.setattr(worlds, "read_key", ordering_key)
    world = World(ManualClock(), Stored())
    world.start()
    topic = await world.topics.create(TOPIC, TopicConfig(message_retention_us=7 * DAY_US))
    world.stored.next_seqs[topic.id] = 0
    await world.subscriptions.create(ORDERS, TOPIC, SubscriptionConfig())
    return world


@pytest.fixture
def windows(world: World) -> Windows:
    set_caller(
        Principal("uuid", "alice", by_project={ORDERS.project: frozenset({"project_admin"})})
    )
    return Windows(world.broker, wait_s=60)


def as_role(role: str) -> None:
    set_caller(Principal("uuid", "somebody", by_project={ORDERS.project: frozenset({role})}))


async def publish(world: World, *datas: bytes) -> None:
    await world.publish(*[pb.PubsubMessage(data=data).SerializeToString() for data in datas])


async def pull(windows: Windows, max_messages: int = 100, **more: Any) -> ams.PullReply:
    request = ams.PullRequest(**NAMES, max_messages=max_messages, **more)
    reply = await windows.Pull(request, NOBODY)
    return ams.PullReply.FromString(reply.SerializeToString())


async def pull_ids(windows: Windows, max_messages: int = 100, **more: Any) -> list[str]:
    reply = await pull(windows, max_messages, **more)
    return [each.message.message_id for each in reply.received_messages]


async def ack(windows: Windows, *ack_ids: str) -> None:
    """Ids without a name are those of the subscription."""
    ids = [f"{HEAD}{each[1:]}" if each.startswith(":") else each for each in ack_ids]
    await windows.Acknowledge(ams.AcknowledgeRequest(**NAMES, ack_ids=ids), NOBODY)


async def offsets(windows: Windows) -> tuple[int, int, int]:
    found = await windows.GetOffsets(ams.SubscriptionRequest(**NAMES), NOBODY)
    return found.max, found.min, found.current


async def move(windows: Windows, offset: int) -> None:
    await windows.ModifyOffset(ams.ModifyOffsetRequest(**NAMES, offset=offset), NOBODY)


async def set_deadline(windows: Windows, seconds: int) -> None:
    request = ams.ModifyAckDeadlineRequest(**NAMES, ack_deadline_seconds=seconds)
    await windows.ModifyAckDeadline(request, NOBODY)


async def offset_at(windows: Windows, time: str) -> int:
    request = ams.TimeToOffsetRequest(**NAMES, time=time)
    return (await windows.TimeToOffset(request, NOBODY)).offset


async def refusal(work: Awaitable[object]) -> tuple[str, str]:
    """The reason, or else the class, and the text."""
    with pytest.raises(BrokerError) as caught:
        await work
    error = caught.value
    reason = error.info.reason if isinstance(error, AmsRefusal) and error.info else ""
    return reason or type(error).__name__, error.message


async def test_the_conformance_vectors_of_ams(world: World, windows: Windows) -> None:
    no_ack_pending = ("NO_ACK_PENDING", "no ack pending")
    invalid_ack_id = ("InvalidArgument", "Invalid ack id")
    assert await offsets(windows) == (0, 0, 0)
    assert await pull_ids(windows, 1) == []
    assert await refusal(ack(windows, ":0")) == no_ack_pending
    await publish(world, b"a", b"b", b"c")
    assert await pull_ids(windows, 2) == ["0", "1"]
    assert await pull_ids(windows, 0) == ["0"]
    assert await refusal(ack(windows, ":1")) == ("WRONG_ACK", "wrong ack")
    other = f"projects/{ORDERS.project}/subscriptions/other:0"
    assert await refusal(ack(windows, other)) == invalid_ack_id
    assert await refusal(ack(windows)) == invalid_ack_id
    assert await pull_ids(windows, 10) == ["0", "1", "2"]
    await ack(windows, ":2")
    assert await refusal(ack(windows, ":2")) == no_ack_pending
    assert await offsets(windows) == (3, 0, 3)
    out_of_bounds = ("InvalidArgument", "Offset out of bounds")
    assert await refusal(move(windows, 4)) == out_of_bounds
    assert await refusal(move(windows, -1)) == out_of_bounds
    assert await offsets(windows) == (3, 0, 3)
    await move(windows, 3)
    await move(windows, 0)
    assert await offsets(windows) == (3, 0, 0)
    bad_deadline = (
        "InvalidArgument",
        "Invalid ackDeadlineSeconds(needs value between 0 and 600) Arguments",
    )
    assert await refusal(set_deadline(windows, 601)) == bad_deadline
    assert await refusal(set_deadline(windows, -1)) == bad_deadline
    await set_deadline(windows, 600)
    await set_deadline(windows, 1)
    await pull(windows)
    world.clock.advance(3)
    assert await refusal(ack(windows, ":0")) == ("ACK_TIMEOUT", "ack timeout")
    await pull(windows)
    await ack(windows, ":0")
    await world.topics.delete(TOPIC)
    gone = ("CONFLICT", "Subscription's topic doesn't exist")
    assert await refusal(pull(windows)) == gone
    await world.subscriptions.delete(ORDERS)
    for work in (
        windows.check_Pull(ams.PullRequest(**NAMES), NOBODY),
        pull(windows),
        ack(windows),
        offsets(windows),
        move(windows, 0),
        set_deadline(windows, 5),
        offset_at(windows, "garbage"),
    ):
        assert await refusal(work) == ("NotFound", "Subscription doesn't exist")


async def test_a_detached_subscription_has_no_topic_any_more(
    world: World, windows: Windows
) -> None:
    await world.subscriptions.detach(ORDERS)
    assert await refusal(pull(windows)) == ("CONFLICT", "Subscription's topic doesn't exist")


async def test_a_message_as_ams_shows_it(world: World, windows: Windows) -> None:
    message = pb.PubsubMessage(
        data=b"hello\xff", attributes={"region": 'e"u\n', "b": ""}, ordering_key="key"
    )
    await world.publish(message.SerializeToString(), pb.PubsubMessage().SerializeToString())
    published_us = world.clock.now_us()

    full, empty = (await pull(windows)).received_messages

    assert full.ack_id == f"{HEAD}0"
    assert full.message.message_id == "0"
    assert full.message.data == b64encode(b"hello\xff").decode()
    assert dict(full.message.attributes) == {"region": 'e"u\n', "b": ""}
    assert full.message.publish_time.ToMicroseconds() == published_us
    assert (empty.ack_id, empty.message.data, dict(empty.message.attributes)) == (
        f"{HEAD}1",
        "",
        {},
    )


async def test_data_counts_as_it_is_shown(world: World, windows: Windows) -> None:
    await publish(world, b"1", b"four")
    await pull(windows)
    consumption = await world.broker.windowed.consumption(world.stored.subscriptions[ORDERS])
    assert (consumption.messages, consumption.byte_size) == (2, len("MQ==") + len("Zm91cg=="))


@pytest.mark.parametrize(
    "ack_ids",
    [
        [":"],
        [":1.0"],
        [":0x1"],
        [": 1"],
        [":1\n"],
        [":1_0"],
        [":١"],
        [":-1", ":-2"],
        [":0", "garbage"],
        [":0", f"/{HEAD}0"],
        [":9223372036854775808"],
        [":" + "1" * 5000],
    ],
)
async def test_ack_ids_that_are_none(
    world: World, windows: Windows, ack_ids: Sequence[str]
) -> None:
    await publish(world, b"1")
    await pull(windows)
    assert await refusal(ack(windows, *ack_ids)) == ("InvalidArgument", "Invalid ack id")
    await ack(windows, ":-5", ":+0", ":00")


@pytest.mark.parametrize(
    "time",
    [
        "2023-11-14T22:13:20.000Z",
        "2023-11-14 22:13:20.000Z",  # as AMS's library writes whole seconds
        "2023-11-14T22:13:20Z",
        "2023-11-14T22:13:19,1234567890Z",
        "2023-11-13T9:00:00.000Z",
    ],
)
async def test_times_in_all_forms_that_are_in_use(
    world: World, windows: Windows, time: str
) -> None:
    await publish(world, b"at 22:13:20")
    world.clock.advance(1)
    await publish(world, b"a second later")
    assert await offset_at(windows, time) == 0
    assert await offset_at(windows, "2023-11-14T22:13:20.001Z") == 1


@pytest.mark.parametrize(
    "time",
    ["", "now", "2023-11-14", "2023-11-14T22:13:20.000", "2023-13-14T22:13:20.000Z", "0000-01-01T00:00:00Z",
     "2023-11-14T22:13:20.Z", "2023-11-14T22:13:20.000+01:00", "٢023-11-14T22:13:20.000Z"],
)  # fmt: skip
async def test_times_that_are_none(windows: Windows, time: str) -> None:
    assert await refusal(offset_at(windows, time)) == (
        "InvalidArgument",
        "Time is not in valid Zulu format.",
    )


async def test_a_time_after_all_messages_is_out_of_bounds(world: World, windows: Windows) -> None:
    await publish(world, b"at 22:13:20")
    assert await refusal(offset_at(windows, "2023-11-14T22:13:20.001Z")) == (
        "CONFLICT",
        "Timestamp is out of bounds for the subscription's topic/partition",
    )


@pytest.mark.parametrize("pushed", [{"push": HOOK}, {"ams_push": UNVERIFIED}])
@pytest.mark.parametrize("role", ["consumer", "project_admin"])
async def test_what_is_pushed_is_pulled_by_nobody_else(
    world: World, windows: Windows, role: str, pushed: dict[str, Any]
) -> None:
    await world.subscriptions.update(ORDERS, lambda of: replace(of.config, **pushed))
    as_role(role)
    forbidden = ("PermissionDenied", "Access to this resource is forbidden")
    assert await refusal(windows.check_Pull(ams.PullRequest(**NAMES), NOBODY)) == forbidden
    assert await refusal(pull(windows)) == forbidden
    with pytest.raises(AmsRefusal, match="no ack pending"):
        await ack(windows, ":0")  # anybody may try


@pytest.mark.parametrize("role", ["push_worker", "service_admin"])
async def test_those_who_push_may_pull_what_is_pushed(
    world: World, windows: Windows, role: str
) -> None:
    await world.subscriptions.update(ORDERS, lambda of: replace(of.config, push=HOOK))
    as_role(role)
    await publish(world, b"1")
    assert await pull_ids(windows) == ["0"]


@pytest.mark.usefixtures("windows")
async def test_while_pushing_is_disabled_the_push_worker_pulls_nothing_that_is_pushed(
    world: World,
) -> None:
    disabled = Windows(world.broker, push_enabled=False)
    as_role("push_worker")
    assert await pull_ids(disabled) == []
    await world.subscriptions.update(ORDERS, lambda of: replace(of.config, push=HOOK))
    assert await refusal(pull(disabled)) == (
        "CONFLICT",
        "Push functionality is currently disabled",
    )
    as_role("service_admin")
    assert await pull_ids(disabled) == []


async def test_a_pull_waits_if_it_is_to(world: World, windows: Windows) -> None:
    waiting = asyncio.ensure_future(pull_ids(windows, wait=True))
    assert await pull_ids(windows) == []
    assert not waiting.done()
    await publish(world, b"1")
    assert await waiting == ["0"]


async def test_a_waiting_pull_ends_when_its_caller_goes_away(
    world: World, windows: Windows
) -> None:
    """What happens to other calls then is brought to an end; this one has nothing to end."""
    service = ams.DESCRIPTOR.services_by_name["Subscriptions"]
    calls = local_calls(service, windows, Calls())
    request = ams.PullRequest(**NAMES, wait=True)
    waiting = await begun(calls["/ams.v1.Subscriptions/Pull"](request, NOBODY))
    waiting.cancel()
    await asyncio.wait([waiting])
    await publish(world, b"1")
    consumption = await world.broker.windowed.consumption(world.stored.subscriptions[ORDERS])
    assert consumption.last is None


async def test_a_short_deadline_of_ams_is_no_hindrance_to_pub_sub(
    world: World, windows: Windows
) -> None:
    await set_deadline(windows, 0)
    await publish(world, b"1")
    [held] = await world.pull()
    world.clock.advance(9)
    assert await world.pull() == []
    await world.ack(held)
    # What was accepted does not block other changes; but Pub/Sub sets no such deadline.
    await world.subscriptions.update(ORDERS, lambda of: replace(of.config, labels={"a": "b"}))
    with pytest.raises(InvalidArgument):
        await world.subscriptions.update(ORDERS, lambda of: replace(of.config, ack_deadline_s=1))
