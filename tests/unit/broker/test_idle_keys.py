"""Ordering keys cost memory while something of them is out, and not afterwards."""

from __future__ import annotations

import tracemalloc

from ams_grpc.broker.consumers import Consumer
from ams_grpc.broker.ordering import Keys

_KEYS = 100_000
_AT_A_TIME = 1_000


def test_keys_that_are_idle_again_cost_nothing() -> None:
    keys = Keys(most_out=_AT_A_TIME)
    consumer = Consumer(lambda _: None, lambda _: None, ack_deadline_s=10)
    used: list[int] = []
    tracemalloc.start()
    try:
        for start in range(0, _KEYS, _AT_A_TIME):
            for seq in range(start, start + _AT_A_TIME):
                keys.deliver(f"key-{seq}", seq, consumer)
            assert len(keys) == _AT_A_TIME
            for seq in range(start, start + _AT_A_TIME):
                assert keys.acknowledge(seq) == [seq]
            used.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()

    assert len(keys) == 0
    # The tables that the first ones needed are there for all that follow; these add not a byte each.
    assert used[-1] - used[0] < _KEYS // 10
