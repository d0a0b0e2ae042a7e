"""What stands between a publisher and a topic's log."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ams_grpc.broker.catalog import Topic, TopicConfig
from ams_grpc.broker.errors import InvalidArgument, NotFound
from ams_grpc.broker.names import SchemaName, TopicName
from ams_grpc.broker.policies import Encoding, SchemaSettings
from ams_grpc.broker.ports import Admitted
from ams_grpc.broker.schemas import Definition, SchemaType
from ams_grpc.pb.ams.v1 import pubsub_pb2 as ams
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.schemas.errors import MessageError
from ams_grpc.services import definitions
from ams_grpc.services.ams.data import stored_body
from ams_grpc.services.definitions import CompiledDefinitions
from ams_grpc.services.gate import INLINE_BYTES, PART_BYTES, THREADS, SchemaGate, chain
from ams_grpc.services.messages import bodies, payload_of

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""The machine may be busy: no example has to be quick."""

TOPIC = Topic(1, TopicName("p", "orders"), 1, TopicConfig())


# --- chains ---------------------------------------------------------------------------------------


class Keep:
    """Lets only some messages pass, by their position."""

    def __init__(self, keeps: Sequence[bool]) -> None:
        self.keeps = keeps
        self.saw: list[bytes] = []

    async def admit(self, topic: Topic, payload: bytes, count: int) -> Admitted:
        assert topic is TOPIC
        self.saw = bodies(payload, count)
        places = [place for place in range(count) if self.keeps[place]]
        if len(places) == count:
            return Admitted(payload, count)
        return Admitted(payload_of(self.saw[place] for place in places), len(places), places)


keeps = st.lists(st.booleans(), min_size=5, max_size=5)


@patient
@given(st.lists(keeps, min_size=1, max_size=3))
async def test_a_chain_names_the_messages_that_passed_by_their_place_in_the_request(
    filters: list[list[bool]],
) -> None:
    request = [b"\x0a\x01%d" % number for number in range(5)]
    left = list(range(5))
    for kept in filters:
        left = [number for place, number in enumerate(left) if kept[place]]

    admitted = await chain(*map(Keep, filters)).admit(TOPIC, payload_of(request), 5)

    assert admitted.count == len(left)
    places = range(5) if admitted.places is None else admitted.places
    assert list(places) == left
    if left:
        assert bodies(admitted.payload, admitted.count) == [request[number] for number in left]


async def test_what_nothing_is_left_of_is_shown_to_nobody_else() -> None:
    last = Keep([True])

    admitted = await chain(Keep([False]), last).admit(TOPIC, payload_of([b"\x0a\x01x"]), 1)

    assert (admitted.count, admitted.places) == (0, [])
    assert last.saw == []


# --- schemas --------------------------------------------------------------------------------------


def record(*fields: str) -> Definition:
    of_record = [{"name": name, "type": "int"} for name in fields]
    text = json.dumps({"type": "record", "name": "R", "fields": of_record})
    return Definition(SchemaType.AVRO, text)


class MemorySchemas:
    """What a gate reads of schemas, and how often it did."""

    def __init__(self, **definitions: Definition) -> None:
        self.definitions = dict(enumerate(definitions.values(), 1))
        self.ids = dict(enumerate(definitions, 1))
        self.reads: list[str] = []
        self.rules = ""

    async def revision_ids(self, schema_id: int) -> Sequence[tuple[int, str]]:
        self.reads.append(f"revisions of {schema_id}")
        return sorted(self.ids.items(), reverse=True)

    async def attribute_rules(self, schema_id: int) -> str:
        return self.rules

    async def definition(self, revision: int) -> Definition | None:
        self.reads.append(f"definition of {revision}")
        return self.definitions.get(revision)


def topic(version: int = 1, **settings: object) -> Topic:
    given: dict[str, object] = {
        "schema": SchemaName("p", "order"),
        "encoding": Encoding.JSON,
        "schema_id": 7,
        **settings,
    }
    config = TopicConfig(schema_settings=SchemaSettings(**given))  # type: ignore[arg-type]
    return replace(TOPIC, version=version, config=config)


def gate(schemas: MemorySchemas, cache_bytes: int = 1 << 20) -> SchemaGate:
    return SchemaGate(schemas, CompiledDefinitions(cache_bytes))  # type: ignore[arg-type]


async def admitted(to: SchemaGate, of: Topic, *data: bytes) -> list[str]:
    """The revisions that messages follow."""
    payload = pb.PublishRequest(messages=[pb.PubsubMessage(data=each) for each in data])
    result = await to.admit(of, payload.SerializeToString(), len(data))
    assert (result.count, result.places) == (len(data), None)
    messages = pb.PublishRequest.FromString(result.payload).messages
    assert [message.data for message in messages] == list(data)
    return [message.attributes["googclient_schemarevisionid"] for message in messages]


async def test_messages_of_one_request_may_follow_different_revisions() -> None:
    schemas = MemorySchemas(old=record("a"), new=record("b"), newest=record("c"))

    followed = await admitted(gate(schemas), topic(), b'{"a":1}', b'{"b":1}', b'{"a":1,"c":1}')

    assert followed == ["old", "new", "newest"]


async def test_the_first_message_that_follows_none_is_named_with_the_newest_revisions_reason() -> (
    None
):
    schemas = MemorySchemas(old=record("a"), new=record("b"))

    with pytest.raises(InvalidArgument) as refusal:
        await admitted(gate(schemas), topic(), b'{"a":1}', b'{"b":1}', b"{}", b"[]")

    assert refusal.value.info is not None
    assert refusal.value.info.metadata["message"] == (
        "Message failed schema validation: messages[2], revision new: "
        "Field was not found in JSON object: b"
    )


async def test_only_revisions_in_range_count() -> None:
    schemas = MemorySchemas(one=record("a"), two=record("a"), three=record("a"))
    through = gate(schemas)

    assert await admitted(through, topic(1, last_revision=2), b'{"a":1}') == ["two"]
    assert await admitted(through, topic(2, first_revision=2), b'{"a":1}') == ["three"]
    with pytest.raises(InvalidArgument):
        await admitted(through, topic(3, first_revision=4), b'{"a":1}')


async def test_for_the_same_version_of_a_topic_nothing_is_read_again() -> None:
    schemas = MemorySchemas(only=record("a"))
    through = gate(schemas)

    for _ in range(3):
        await admitted(through, topic(), b'{"a":1}')

    assert schemas.reads == ["revisions of 7", "definition of 1"]


async def test_for_another_version_the_revisions_are_read_again_and_no_known_definition() -> None:
    schemas = MemorySchemas(first=record("a"))
    through = gate(schemas)
    await admitted(through, topic(), b'{"a":1}')
    schemas.ids[2], schemas.definitions[2] = "second", record("a")

    assert await admitted(through, topic(version=1), b'{"a":1}') == ["first"]
    assert await admitted(through, topic(version=2), b'{"a":1}') == ["second"]
    assert schemas.reads[2:] == ["revisions of 7", "definition of 2"]


async def test_compiled_definitions_are_forgotten_when_there_are_too_many() -> None:
    schemas = MemorySchemas(first=record("a"), second=record("b"))
    through = gate(schemas, cache_bytes=1500)  # room for one

    for _ in range(2):
        await admitted(through, topic(), b'{"a":1}')

    assert schemas.reads == ["revisions of 7", *["definition of 2", "definition of 1"] * 2]


async def test_a_revision_that_went_away_meanwhile_is_passed_over() -> None:
    schemas = MemorySchemas(first=record("a"), second=record("a"))
    del schemas.definitions[2]

    assert await admitted(gate(schemas), topic(), b'{"a":1}') == ["first"]


async def test_without_its_schema_a_topic_takes_nothing() -> None:
    with pytest.raises(NotFound, match=r"Schema associated with topic deleted\."):
        await admitted(gate(MemorySchemas()), topic(schema=None), b"{}")


async def test_a_topic_without_schema_takes_everything_as_it_is() -> None:
    payload = payload_of([b"\x0a\x01x"])

    assert await gate(MemorySchemas()).admit(TOPIC, payload, 1) == Admitted(payload, 1)


# --- schemas as AMS has them ---------------------------------------------------------------------

NUMBER: Final = Definition(SchemaType.JSON, '{"type":"number"}')
TEXT_MARK: Final = stored_body(ams.Message(data="*"))[-3:]


def messages(*data: bytes, **attributes: str) -> list[bytes]:
    return [pb.PubsubMessage(data=d, attributes=attributes).SerializeToString() for d in data]


async def said_of(to: SchemaGate, of: Topic, *serialized: bytes) -> str:
    """The text of the refusal; empty if there is none, and all is stored as it came."""
    payload = payload_of(serialized)
    try:
        result = await to.admit(of, payload, len(serialized))
    except InvalidArgument as refusal:
        return refusal.message
    assert result == Admitted(payload, len(serialized))
    return ""


@pytest.mark.parametrize(
    "definition, good, bad, said",
    [
        (
            NUMBER,
            b"1",
            b"[]",
            "data is not valid,(root): Invalid type. Expected: number, given: array",
        ),
        (record("a"), b"\x02", b"", "is not valid.a: the data ends too early"),
    ],
)
async def test_messages_of_ams_are_stored_as_they_came_or_refused_in_its_words(
    definition: Definition, good: bytes, bad: bytes, said: str
) -> None:
    through, of = gate(MemorySchemas(only=definition)), topic(ams=True)

    assert await said_of(through, of, *messages(good, good)) == ""
    assert await said_of(through, of, *messages(good, bad, bad)) == f"Message 1 {said}"


async def test_a_json_schema_speaks_as_ams_through_every_door_and_stamps_as_the_topic_says() -> (
    None
):
    through = gate(MemorySchemas(only=NUMBER))

    assert await admitted(through, topic(), b"1") == ["only"]
    with pytest.raises(InvalidArgument, match=r"^Message 1 data is not valid,") as refusal:
        await admitted(through, topic(), b"1", b"[]")
    assert refusal.value.field == "messages[1].data"


async def test_the_first_message_that_is_wrong_in_any_way_is_named() -> None:
    schemas = MemorySchemas(only=NUMBER)
    schemas.rules = '{"site":{"required":true}}'
    through, of = gate(schemas), topic(ams=True)
    [good], [bad] = messages(b"1", site="x"), messages(b"[]", site="x")
    [lost] = messages(b"1")
    text, in_base64 = (each + TEXT_MARK for each in messages(b"*", b"MQ\n==", site="x"))
    unreadable, invalid, homeless = (
        "is not in valid base64 enocding,illegal base64 data at input byte 0",
        "data is not valid,(root): Invalid type. Expected: number, given: array",
        "attributes are not valid,site: is required",
    )

    assert await said_of(through, of, good, in_base64) == ""
    for request, place, said in (
        ([good, text, bad, lost], 1, unreadable),
        ([good, bad, text, lost], 1, invalid),
        ([good, lost, text, bad], 1, homeless),
        ([text, lost], 0, unreadable),
        ([lost, text], 0, homeless),
        ([good] * 300 + [lost, text], 300, homeless),  # in a thread
    ):
        assert await said_of(through, of, *request) == f"Message {place} {said}"


# --- who waits for whom ---------------------------------------------------------------------------

PATIENCE_S: Final = 30.0
LARGE: Final = b"x" * (INLINE_BYTES + 1)


class Slow:
    """A definition that takes messages, but those with an "s" at the end not before it is told."""

    extra_bytes = 0

    def __init__(self) -> None:
        self.begun: list[bytes] = []
        self.by: list[str] = []
        self.go_on = threading.Event()

    def check_json(self, data: bytes) -> None:
        self.begun.append(data[-1:])
        self.by.append(threading.current_thread().name)
        if data.endswith(b"s"):
            assert self.go_on.wait(PATIENCE_S)
        if data.endswith(b"bad"):
            raise MessageError("bad")

    check_binary = check_json

    def check_compatible(self, other: Slow) -> None:
        raise NotImplementedError

    def json_work(self, size: int) -> int:
        return size

    def binary_work(self, size: int) -> int:
        return size * 1000


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    slow = Slow()
    monkeypatch.setattr(definitions, "_compile", lambda _definition: slow)
    return slow


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # other threads make it true
            await asyncio.sleep(0.001)


async def test_what_may_cost_much_is_checked_in_a_thread_and_all_else_where_it_is(
    slow: Slow,
) -> None:
    through = gate(MemorySchemas(only=record("a")))
    binary = topic(2, encoding=Encoding.BINARY)

    await admitted(through, topic(), b"x" * 100)
    await admitted(through, topic(), LARGE)
    await admitted(through, binary, b"x" * 100)  # it says so itself

    assert [name.startswith("validation") for name in slow.by] == [False, True, True]


async def test_what_has_to_be_tried_with_many_revisions_goes_on_in_a_thread(slow: Slow) -> None:
    through = gate(MemorySchemas(**{f"r{n}": record("a") for n in range(5)}))

    with pytest.raises(InvalidArgument):
        await admitted(through, topic(), b"x" * (INLINE_BYTES // 3) + b"bad")

    assert [name.startswith("validation") for name in slow.by] == [False, False, True, True, True]


async def test_a_busy_topic_takes_one_thread_and_leaves_the_others(slow: Slow) -> None:
    through = gate(MemorySchemas(only=record("a")))
    other = replace(topic(), id=2)

    async with asyncio.TaskGroup() as publishers:
        for _ in range(10 * THREADS):
            publishers.create_task(admitted(through, topic(), LARGE + b"s"))
        await until(lambda: slow.begun == [b"s"])
        async with asyncio.timeout(PATIENCE_S):
            await admitted(through, other, LARGE)
        assert slow.begun == [b"s", b"x"]
        slow.go_on.set()


async def test_a_large_request_is_checked_part_by_part(slow: Slow) -> None:
    """So that others have their turn, and no more is done for a publisher who is gone."""
    through = gate(MemorySchemas(only=record("a")))
    part = b"x" * PART_BYTES
    publish = asyncio.create_task(admitted(through, topic(), part + b"s", part + b"2", part + b"3"))
    await until(lambda: slow.begun == [b"s"])

    publish.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publish
    slow.go_on.set()
    await admitted(through, topic(), part + b"4")

    assert slow.begun == [b"s", b"4"]


async def test_messages_are_named_by_their_place_in_the_request_whatever_part_they_are_in(
    slow: Slow,
) -> None:
    through = gate(MemorySchemas(only=record("a")))
    part = b"x" * PART_BYTES

    with pytest.raises(InvalidArgument) as refusal:
        await admitted(through, topic(), part, part, part + b"bad", b"x")

    assert refusal.value.field == "messages[2].data"


async def test_publishers_do_not_wait_for_definitions_that_are_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go_on, begun = threading.Event(), threading.Semaphore(0)

    def checked(definition: Definition) -> Definition:
        begun.release()
        assert go_on.wait(PATIENCE_S)
        return definition

    monkeypatch.setattr(definitions, "_checked", checked)
    known = CompiledDefinitions()
    through = SchemaGate(MemorySchemas(only=record("a")), known)  # type: ignore[arg-type]

    async with asyncio.TaskGroup() as administrators:
        for _ in range(10 * definitions.THREADS):
            administrators.create_task(known.check(record("a")))
        for _ in range(definitions.THREADS):
            await until(lambda: begun.acquire(blocking=False))
        async with asyncio.timeout(PATIENCE_S):
            assert await admitted(through, topic(), b'{"a":1}') == ["only"]
        go_on.set()


async def test_a_revision_is_loaded_once_however_many_publishers_wait_for_it() -> None:
    schemas = MemorySchemas(only=record("a"))
    through = gate(schemas)

    async with asyncio.TaskGroup() as publishers:
        for _ in range(20):
            publishers.create_task(admitted(through, topic(), b'{"a":1}'))

    assert schemas.reads.count("definition of 1") == 1
