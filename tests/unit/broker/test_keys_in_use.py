"""Ordering keys of which something is out when more of them is read, or when something goes."""

from __future__ import annotations

from ams_grpc.broker.consumers import Consumer
from ams_grpc.broker.ordering import FOREVER, Keys


def subscriber() -> Consumer:
    return Consumer(lambda _: None, lambda _: None, ack_deadline_s=10)


def held_back(keys: Keys, seq: int) -> list[int]:
    key = keys.of(seq)
    return [] if key is None else list(key.held_back)


def test_what_was_out_at_a_restart_follows_an_earlier_one_that_was_not() -> None:
    """Of messages 1 to 5 only the leases of 2 and 4 have outlasted the process."""
    keys, earlier = Keys(), subscriber()
    keys.deliver("k", 2, earlier)
    keys.deliver("k", 4, earlier)

    taken = {seq: keys.hold_back("k", seq) for seq in range(1, 6)}  # as they are read

    assert taken == {1: [2, 4], 2: [], 3: [], 4: [], 5: []}
    assert held_back(keys, 1) == [1, 2, 3, 4, 5]
    assert keys.held_back == 5


def test_each_of_them_goes_out_and_is_done_once() -> None:
    keys, earlier, now = Keys(), subscriber(), subscriber()
    keys.deliver("k", 2, earlier)
    for seq in range(1, 4):
        keys.hold_back("k", seq)

    for seq in range(1, 4):
        key = keys.next_for(now)
        assert key is not None
        assert key.held_back[0] == seq
        keys.deliver("k", seq, now)
    final = [keys.acknowledge(seq) for seq in range(1, 4)]

    assert final == [[1], [2], [3]]
    assert len(keys) == keys.held_back == keys.provisional == 0


def test_a_key_does_not_rest_for_one_that_is_gone() -> None:
    keys = Keys()
    for seq in range(1, 4):
        keys.hold_back("k", seq)
    key = keys.of(1)
    assert key is not None
    keys.rest(key, FOREVER)
    assert keys.next_for(subscriber()) is None

    assert keys.discard([2]) == [2]  # the key still rests for the first
    assert keys.next_for(subscriber()) is None
    assert keys.discard([1]) == [1]  # retention has taken it, or a late ack

    assert keys.next_for(subscriber()) is key
    assert held_back(keys, 3) == [3]
