"""Transforms of topics and subscriptions: chains, the gate before storage, the view before delivery."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
import zlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import zstandard

from ams_grpc.broker.catalog import Topic, TopicConfig
from ams_grpc.broker.errors import InvalidArgument, Unavailable
from ams_grpc.broker.names import TopicName
from ams_grpc.broker.policies import (
    CompressionAlgorithm,
    CompressionMode,
    CompressionTransform,
    JavaScriptTransform,
    Transform,
)
from ams_grpc.broker.ports import Admitted
from ams_grpc.broker.views import Stretch
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.transforms import gate
from ams_grpc.transforms import lanes as lanes_module
from ams_grpc.transforms import worker as worker_module
from ams_grpc.transforms.chain import Outcome
from ams_grpc.transforms.check import TransformCheck
from ams_grpc.transforms.lanes import Lanes
from ams_grpc.transforms.view import TransformedView
from ams_grpc.transforms.worker import Worker
from tests.unit.broker.fakes import ManualClock

COMPRESS = CompressionTransform(CompressionMode.COMPRESS)
DECOMPRESS = CompressionTransform(CompressionMode.DECOMPRESS)
COMPRESS_ZSTD = CompressionTransform(CompressionMode.COMPRESS, CompressionAlgorithm.ZSTD)
DECOMPRESS_ZSTD = CompressionTransform(CompressionMode.DECOMPRESS, CompressionAlgorithm.ZSTD)


def pieces(data: bytes) -> bytes:
    """A Zstandard frame that was written as a stream, so that its size is not in front."""
    packer = zstandard.ZstdCompressor().compressobj()
    return packer.compress(data) + packer.flush()


def javascript(body: str, name: str = "f", *, disabled: bool = False) -> JavaScriptTransform:
    return JavaScriptTransform(name, f"function {name}(message, metadata) {{ {body} }}", disabled)


APPEND_1 = javascript("return {data: message.data + '1', attributes: message.attributes}", "one")
APPEND_2 = javascript("return {data: message.data + '2', attributes: message.attributes}", "two")
DROP_B = javascript("return message.data.startsWith('b') ? null : message", "drop")
FAIL_C = javascript("if (message.data === 'c') throw new Error('no c'); return message", "fail")
SLOW = javascript("const end = Date.now() + 40; while (Date.now() < end) {} return message", "slow")


@pytest.fixture
async def lanes() -> AsyncIterator[Lanes]:
    lanes = Lanes()
    yield lanes
    lanes.close()


# --- topics -----------------------------------------------------------------------------------------


async def admit(
    lanes: Lanes, transforms: Sequence[Transform], *messages: pb.PubsubMessage
) -> tuple[list[pb.PubsubMessage], Sequence[int] | None]:
    """What a topic with these transforms stores, and the places of that in the request."""
    topic = Topic(1, TopicName("p", "orders"), 1, TopicConfig(transforms=tuple(transforms)))
    payload = pb.PublishRequest(messages=messages).SerializeToString()
    admitted = await gate.TransformGate(lanes, ManualClock()).admit(topic, payload, len(messages))
    stored = list(pb.PublishRequest.FromString(admitted.payload).messages)
    assert len(stored) == admitted.count
    return stored, admitted.places


def of(*data: str, **fields: Any) -> list[pb.PubsubMessage]:
    return [pb.PubsubMessage(data=each.encode(), **fields) for each in data]


async def test_transforms_follow_each_other(lanes: Lanes) -> None:
    stored, places = await admit(
        lanes, [APPEND_1, APPEND_2], *of("a", "b", attributes={"k": "v"}, ordering_key="key")
    )

    assert stored == of("a12", "b12", attributes={"k": "v"}, ordering_key="key")
    assert places is None


async def test_a_transform_that_is_disabled_does_nothing(lanes: Lanes) -> None:
    disabled = javascript("throw new Error()", disabled=True)

    stored, _ = await admit(lanes, [disabled, APPEND_1], *of("a"))
    untouched, _ = await admit(lanes, [disabled], *of("a"))

    assert stored == of("a1")
    assert untouched == of("a")


async def test_what_is_dropped_is_left_out_and_goes_no_further(lanes: Lanes) -> None:
    stored, places = await admit(lanes, [DROP_B, FAIL_C, APPEND_1], *of("a", "b", "b", "d"))

    assert stored == of("a1", "d1")
    assert places == [0, 3]


async def test_a_request_may_be_dropped_as_a_whole(lanes: Lanes) -> None:
    assert await admit(lanes, [DROP_B], *of("b", "b")) == ([], [])


async def test_a_failure_refuses_the_request_and_says_which_message_it_was(lanes: Lanes) -> None:
    with pytest.raises(
        InvalidArgument,
        match=r"^Message 3 of the request: a transform of the topic failed: function fail: "
        r"Error: no c$",
    ):
        await admit(lanes, [FAIL_C], *of("a", "b", "c"))


async def test_a_request_takes_as_many_turns_as_it_needs(lanes: Lanes) -> None:
    data = [str(i) for i in range(12)]

    stored, _ = await admit(lanes, [APPEND_1, SLOW, APPEND_2], *of(*data))

    assert stored == of(*(f"{each}12" for each in data))


async def test_what_a_publisher_says_of_id_and_time_is_not_believed(lanes: Lanes) -> None:
    tell = javascript("return {data: JSON.stringify(metadata)}")
    [message] = of("a", message_id="7")
    message.publish_time.FromSeconds(5)

    stored, _ = await admit(lanes, [tell], message)

    now = pb.PubsubMessage()
    now.publish_time.FromMicroseconds(ManualClock().now_us())
    time = now.publish_time.ToDatetime().strftime("%Y-%m-%dT%H:%M:%SZ")
    assert stored == of(f'{{"publish_time":"{time}"}}')


@pytest.mark.parametrize(
    "body, reason",
    [
        ("return {data: ''}", "an empty message comes of it"),
        ("return {data: 'x'.repeat(10000001)}", "more than 10000000 bytes come of it"),
        ("return {data: '', attributes: {'': 'x'}}", "a key is empty"),
        ("return {data: '', attributes: {googx: 'x'}}", "keys that start with 'goog' are reserved"),
        ("return {data: '', attributes: {a: 'é'.repeat(513)}}", "a value has more than 1024 bytes"),
        (
            "const a = {}; for (let i = 0; i < 101; i++) a[i] = ''; return {data: '', attributes: a}",
            "at most 100 per message",
        ),
        ("return {data: '\\ud800'}", "no valid Unicode"),
        ("return {data: '', attributes: {'\\udc00': ''}}", "UTF-8|Unicode"),
    ],
)
async def test_a_result_obeys_the_limits_of_messages(lanes: Lanes, body: str, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        await admit(lanes, [javascript(body)], *of("a"))


async def test_a_request_obeys_its_limit_after_the_transforms_too(lanes: Lanes) -> None:
    grow = javascript("return {data: 'x'.repeat(4000000)}")

    with pytest.raises(InvalidArgument, match="request_size is too large"):
        await admit(lanes, [grow], *of("a", "b", "c"))


async def test_data_that_is_no_text_fails_where_it_stands(lanes: Lanes) -> None:
    no_text = pb.PubsubMessage(data=b"\xff")

    with pytest.raises(InvalidArgument, match=r"^Message 3 .* the data is no valid UTF-8$"):
        await admit(lanes, [DROP_B], *of("a", "b"), no_text, *of("d"))


async def test_a_gate_takes_in_only_so_much_at_once(
    lanes: Lanes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "_MAX_WAITING_BYTES", 100)
    topic = Topic(1, TopicName("p", "orders"), 1, TopicConfig(transforms=(SLOW,)))
    payload = pb.PublishRequest(messages=of("x" * 60)).SerializeToString()
    busy = gate.TransformGate(lanes, ManualClock())

    results = await asyncio.gather(
        *(busy.admit(topic, payload, 1) for _ in range(3)), return_exceptions=True
    )

    assert [type(each) for each in results] == [Admitted, Unavailable, Unavailable]
    assert (await busy.admit(topic, payload, 1)).count == 1


# --- compression ------------------------------------------------------------------------------------


async def test_compression_changes_data_and_nothing_else(lanes: Lanes) -> None:
    [message] = of("x" * 1000, attributes={"a": "1"}, ordering_key="key")

    [packed], _ = await admit(lanes, [COMPRESS], message)
    [unpacked], _ = await admit(lanes, [DECOMPRESS], packed)

    assert zlib.decompress(packed.data) == message.data
    assert dict(packed.attributes) == {"a": "1"}
    assert packed.ordering_key == "key"
    assert unpacked == message


async def test_zstandard_too(lanes: Lanes) -> None:
    [message] = of("x" * 1000)

    [packed], _ = await admit(lanes, [COMPRESS_ZSTD], message)
    [unpacked], _ = await admit(lanes, [DECOMPRESS_ZSTD], packed)

    assert zstandard.decompress(packed.data) == message.data
    assert unpacked == message


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"no zstd", ""),
        (zstandard.compress(b"text")[:-2], ""),
        (zstandard.compress(b"text") + b"more", ""),
        (zstandard.compress(b"\0" * 10_000_001), "more than 10000000 bytes come of it"),
        (pieces(b"\0" * 10_000_002), ""),  # it does not say how much comes of it
    ],
)
async def test_what_zstandard_cannot_unpack_fails(lanes: Lanes, data: bytes, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=f"cannot decompress the data: .*{reason}"):
        await admit(lanes, [DECOMPRESS_ZSTD], pb.PubsubMessage(data=data))


async def test_a_message_without_data_is_neither_packed_nor_unpacked(lanes: Lanes) -> None:
    [message] = of("", attributes={"a": "1"})

    assert await admit(lanes, [COMPRESS], message) == ([message], None)
    assert await admit(lanes, [DECOMPRESS], message) == ([message], None)


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"no zlib", "incorrect header check"),
        (zlib.compress(b"text")[:-2], "it is cut short"),
        (zlib.compress(b"text") + b"more", "something follows it"),
        (zlib.compress(b"\0" * 10_000_001), "more than 10000000 bytes come of it"),
    ],
)
async def test_what_cannot_be_unpacked_fails(lanes: Lanes, data: bytes, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=f"cannot decompress the data: .*{reason}"):
        await admit(lanes, [DECOMPRESS], pb.PubsubMessage(data=data))


async def test_many_bombs_are_unpacked_a_few_at_a_time(lanes: Lanes) -> None:
    bomb = pb.PubsubMessage(data=zlib.compress(b"\0" * 9_000_000))

    with pytest.raises(InvalidArgument, match="request_size is too large"):
        await admit(lanes, [DECOMPRESS], *[bomb] * 1000)


# --- subscriptions ----------------------------------------------------------------------------------


class Inner:
    """A view with one window, which has to be loaded first."""

    def __init__(self, *messages: pb.PubsubMessage | None, first_seq: int = 10) -> None:
        serialized = [None if m is None else m.SerializeToString() for m in messages]
        self.window = Stretch(first_seq, 5, serialized)
        self.is_loaded = False

    def find(self, seq: int) -> Stretch | None:
        window = self.window
        return window if self.is_loaded and window.first_seq <= seq < window.end_seq else None

    async def load(self, seq: int) -> int | None:
        self.is_loaded = True
        return max(seq, self.window.first_seq) if seq < self.window.end_seq else None


def transformed(
    inner: Inner, lanes: Lanes, *transforms: Transform, clock: ManualClock | None = None
) -> TransformedView:
    return TransformedView(
        inner, transforms, lanes=lanes, whose="anybody", clock=clock or ManualClock()
    )


async def read(
    view: TransformedView, seq: int, end: int
) -> tuple[dict[int, bytes | None], dict[int, str]]:
    """By seq, what is shown of all from ``seq`` to ``end``, and the failures among them."""
    shown: dict[int, bytes | None] = {}
    failures: dict[int, str] = {}
    while seq < end:
        assert await view.load(seq) == seq
        window = view.find(seq)
        assert window is not None
        assert window.publish_time_us == 5
        failures |= window.failures
        for message in window.messages[seq - window.first_seq :]:
            shown[seq] = None if message is None else pb.PubsubMessage.FromString(message).data
            seq += 1
    return shown, failures


async def test_a_view_shows_what_the_transforms_made(lanes: Lanes) -> None:
    [a, b, c] = of("a", "b", "c")
    inner = Inner(a, None, b, c)
    view = transformed(inner, lanes, DROP_B, FAIL_C, APPEND_1)

    assert view.find(10) is None
    shown, failures = await read(view, 10, 14)

    assert shown == {10: b"a1", 11: None, 12: None, 13: b"c"}
    assert failures == {13: "function fail: Error: no c"}


async def test_a_view_keeps_id_time_and_key(lanes: Lanes) -> None:
    [message] = of("a", message_id="10", ordering_key="key", attributes={"k": "v"})
    message.publish_time.FromSeconds(5)
    view = transformed(Inner(message), lanes, APPEND_1)

    await view.load(10)

    window = view.find(10)
    assert window is not None
    assert window.messages[0] is not None
    message.data = b"a1"
    assert pb.PubsubMessage.FromString(window.messages[0]) == message


async def test_a_view_works_on_a_short_stretch_at_a_time(lanes: Lanes) -> None:
    view = transformed(Inner(*of(*map(str, range(1000)))), lanes, APPEND_1)

    await view.load(500)

    window = view.find(500)
    assert window is not None
    assert (window.first_seq, window.end_seq) == (500, 756)
    assert view.find(499) is None
    shown, _ = await read(view, 10, 1010)
    assert shown == {10 + i: b"%d1" % i for i in range(1000)}


async def test_a_slow_function_makes_a_stretch_shorter(lanes: Lanes) -> None:
    view = transformed(Inner(*of(*map(str, range(12)))), lanes, APPEND_1, SLOW)

    await view.load(10)

    window = view.find(10)
    assert window is not None
    assert 10 < window.end_seq < 22
    shown, _ = await read(view, 10, 22)
    assert shown == {10 + i: b"%d1" % i for i in range(12)}


async def test_a_view_of_nothing_that_matches_needs_no_work(lanes: Lanes) -> None:
    view = transformed(Inner(*[None] * 5000), lanes, javascript("while (true) {}"))

    shown, _ = await read(view, 10, 5010)

    assert set(shown.values()) == {None}


async def test_what_is_gone_is_passed_on(lanes: Lanes) -> None:
    view = transformed(Inner(*of("a")), lanes, APPEND_1)

    assert await view.load(4) == 10
    assert await view.load(11) is None
    assert view.find(11) is None


async def test_a_failure_is_tried_again_after_a_second(lanes: Lanes) -> None:
    clock = ManualClock()
    view = transformed(Inner(*of("c", "d")), lanes, FAIL_C, clock=clock)
    await view.load(10)
    assert view.find(10) is not None

    clock.advance(1)

    assert view.find(10) is None
    assert view.find(11) is not None
    await view.load(10)
    assert view.find(10) is not None


class Counted(TransformedView):
    """A view that notes how many messages went through its transforms, each time."""

    sizes: list[int]

    def _apply(self, messages: Sequence[bytes], worker: Worker) -> list[Outcome]:
        self.sizes = [*getattr(self, "sizes", []), len(messages)]
        return super()._apply(messages, worker)


def counted(inner: Inner, lanes: Lanes, clock: ManualClock, *transforms: Transform) -> Counted:
    return Counted(inner, transforms, lanes=lanes, whose="anybody", clock=clock)


async def test_one_retry_does_not_do_again_what_went_well(lanes: Lanes) -> None:
    clock = ManualClock()
    view = counted(Inner(*of("a", "c", *"b" * 200)), lanes, clock, FAIL_C)
    await view.load(10)

    for _ in range(3):
        clock.advance(1)
        await view.load(11)
        assert view.find(11) is not None

    assert view.sizes == [202, 1, 1, 1]


async def test_failures_that_are_due_together_are_tried_together(lanes: Lanes) -> None:
    clock = ManualClock()
    view = counted(Inner(*of("c", "c", "c", "a", "c")), lanes, clock, FAIL_C)
    await view.load(10)

    clock.advance(1)
    await view.load(10)

    assert view.sizes == [5, 3]
    assert view.find(12) is not None
    assert view.find(14) is None


# --- lanes and checks -------------------------------------------------------------------------------


async def test_who_is_slow_waits_in_a_lane_of_its_own(lanes: Lanes) -> None:
    """Whatever number of slow ones there is, the quick ones are not behind them."""
    loop_forever = javascript("while (true) {}")

    async def once(whose: str, transform: JavaScriptTransform) -> str:
        name, code = transform.function_name, transform.code
        text = '{"message": {"data": "", "attributes": {}}, "metadata": {}}'
        await lanes.run(whose, lambda worker: worker.run(name, code, [text]))
        return whose

    await once("slow", loop_forever)
    slow = [asyncio.ensure_future(once("slow", loop_forever)) for _ in range(5)]
    await once("quick", APPEND_1)

    assert not any(task.done() for task in slow[1:])
    for task in slow:
        task.cancel()


async def test_what_waits_already_goes_to_the_slow_lane_when_it_turns_out_to_be_slow(
    lanes: Lanes,
) -> None:
    threads: list[str] = []

    def work(_: Worker) -> None:
        threads.append(threading.current_thread().name.rpartition("_")[0])
        time.sleep(0.5)  # that is slow

    await asyncio.gather(*(lanes.run("slow", work) for _ in range(5)))

    assert sorted(threads) == ["slow-transforms"] * 3 + ["transforms"] * 2


async def test_checks_keep_nobody_waiting(lanes: Lanes) -> None:
    """However many there are, and however long they take."""
    let_go = threading.Event()

    def check(_: Worker) -> None:
        let_go.wait(30)

    checks = [asyncio.ensure_future(lanes.check(check)) for _ in range(10)]
    try:
        async with asyncio.timeout(20):
            assert await lanes.run("quick", lambda _: "done") == "done"
    finally:
        let_go.set()
    await asyncio.gather(*checks)


def test_the_slow_ones_that_are_forgotten_are_the_oldest() -> None:
    lanes = Lanes()
    until = time.monotonic() + 60
    for number in range(1000):
        lanes._note_slow(number, until)
    lanes._note_slow(0, until)

    lanes._note_slow(1000, until)

    assert [number for number in range(1001) if not lanes._is_slow(number)] == [1]
    lanes.close()


async def test_a_process_that_is_stuck_is_ended_and_another_one_goes_on(
    lanes: Lanes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "JOB_LIMIT_S", 0.2)
    monkeypatch.setattr(lanes_module, "_LOOK_EVERY_S", 0.1)

    def stuck(worker: Worker) -> list[tuple[str | None, str]]:
        os.kill(worker._started().pid, signal.SIGSTOP)
        return worker.run(APPEND_1.function_name, APPEND_1.code, ())

    async with asyncio.timeout(30):
        [(result, reason)] = await lanes.run("stuck", stuck)
        stored, _ = await admit(lanes, [APPEND_1], *of("a"))

    assert result is None
    assert reason == "it runs for too long, or has broken its engine"
    assert stored == of("a1")


async def test_code_is_checked_before_a_resource_gets_it(lanes: Lanes) -> None:
    check = TransformCheck(lanes)

    await check([APPEND_1, COMPRESS, SLOW])

    with pytest.raises(InvalidArgument, match="message_transforms: function f: SyntaxError") as e:
        await check([APPEND_1, JavaScriptTransform("f", "function f(", disabled=True)])
    assert e.value.field == "message_transforms.javascript_udf.code"
    with pytest.raises(InvalidArgument, match="function f: it runs for too long"):
        await check([JavaScriptTransform("f", "'a'.repeat(4e5).indexOf('a'.repeat(2e5) + 'b')")])
