"""Whatever happens: a message is in a complete object before it is acknowledged, and in the end is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ams_grpc.broker.policies import SECOND_US, StorageExport
from ams_grpc.exports.buckets import NOT_FOUND, PERMISSION_DENIED, DestinationError
from ams_grpc.exports.worker import LONGEST_REST_S
from tests.unit.broker.world import ORDERS
from tests.unit.exports.world import Exporting, settled

Step = Callable[[Exporting], Coroutine[Any, Any, None]]


def publish(count: int, size: int, key: str) -> Step:
    async def step(exporting: Exporting) -> None:
        first = len(exporting.published)
        data = (b"%d" % number for number in range(first, first + count))
        await exporting.publish(*(each.ljust(size, b".") for each in data), ordering_key=key)

    return step


def wait(seconds: float) -> Step:
    return lambda exporting: exporting.advance(seconds)


def fail(state: str) -> Step:
    async def step(exporting: Exporting) -> None:
        exporting.bucket.error = DestinationError("it fails", state)

    return step


async def mend(exporting: Exporting) -> None:
    exporting.bucket.error = None


async def break_off(exporting: Exporting) -> None:
    exporting.bucket.fails_to_complete += 1


async def crash(exporting: Exporting) -> None:
    await exporting.crash()


async def close_and_start(exporting: Exporting) -> None:
    await exporting.close()
    await exporting.start()


async def flush(exporting: Exporting) -> None:
    exporting.world.commits.commit()


async def seek_to_the_end(exporting: Exporting) -> None:
    """All that is there is done: it need not be exported."""
    await exporting.world.snapshots.seek_to_time(ORDERS, exporting.clock.now_us() + 1)
    exporting.given_up.update(exporting.published)
    await settled()


async def change(exporting: Exporting) -> None:
    await exporting.change(filename_suffix=".txt")


steps = st.one_of(
    st.builds(
        publish, st.integers(1, 30), st.sampled_from([1, 400, 2000]), st.sampled_from(["", "k", "l"])
    ),
    st.builds(wait, st.sampled_from([0.5, 5.0, 61.0])),
    st.builds(fail, st.sampled_from(["", NOT_FOUND, PERMISSION_DENIED])),
    st.sampled_from(
        [mend, break_off, crash, close_and_start, flush, seek_to_the_end, change]
    ),
)  # fmt: skip
exports = st.builds(
    StorageExport,
    bucket=st.just("archive"),
    max_duration_us=st.just(60 * SECOND_US),
    max_bytes=st.sampled_from([0, 1000, 5000]),
    max_messages=st.sampled_from([0, 1000]),
)


@settings(max_examples=150, deadline=None)
@given(exports, st.booleans(), st.integers(3, 50), st.lists(steps, max_size=25))
def test_every_message_is_in_a_complete_object_before_it_is_acknowledged(
    export: StorageExport, ordered: bool, max_messages: int, steps: list[Step]
) -> None:
    async def run() -> None:
        exporting = Exporting(max_messages=max_messages)
        await exporting.begin(export, ordered=ordered)
        for step in steps:
            await step(exporting)
            await check(exporting)
        await mend(exporting)
        exporting.bucket.fails_to_complete = 0
        for _ in range(len(exporting.published) + 2):
            await exporting.advance(LONGEST_REST_S)
        await check(exporting)
        assert await exporting.acknowledged() == set(exporting.published)
        await exporting.close()

    async def check(exporting: Exporting) -> None:
        acknowledged = await exporting.acknowledged()
        assert acknowledged <= {*exporting.bucket.lines, *exporting.given_up}
        for content in exporting.bucket.objects.values():
            assert content  # no empty objects
            lines = content.split(b"\n")
            assert len(lines) <= max_messages
            assert len(lines) == 1 or not export.max_bytes or len(content) <= export.max_bytes
        assert len(exporting.bucket.open) <= 1

    asyncio.run(run())
