"""Ordering keys cost memory while something of them is out, and not afterwards."""

from __future__ import annotations

import tracemalloc

from ams_grpc.broker.consumers import Consumer
from ams_grpc.broker.ordering import Keys

_KEYS = 1_000_000
_AT_A_TIME = 1_000


def test_a_million_keys_that_are_idle_again_cost_nothing() -> None:
    keys = Keys(most_out=_AT_A_TIME)
    consumer = Consumer(lambda _: None, lambda _: None, ack_deadline_s=10)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for start in range(0, _KEYS, _AT_A_TIME):
            for seq in range(start, start + _AT_A_TIME):
                keys.deliver(f"key-{seq}", seq, consumer)
            assert len(keys) == _AT_A_TIME
            for seq in range(start, start + _AT_A_TIME):
                assert keys.acknowledge(seq) == [seq]
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(keys) == 0
    assert after - before < _KEYS  # not a byte for each
