"""What all push requests may take together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ams_grpc.push.budget import Budget


class Asker:
    """A worker that has ``left`` requests to make."""

    def __init__(self, budget: Budget, left: int) -> None:
        self.budget = budget
        self.left = left
        self.running = 0

    def go(self) -> None:
        while self.left and self.budget.ask(self.go) > 0:
            self.budget.take(self.go, 10)
            self.left -= 1
            self.running += 1

    def finish(self) -> None:
        self.running -= 1
        self.budget.give(self.go, 10)


def test_no_more_requests_run_at_once_than_the_budget_has() -> None:
    budget = Budget(3, 1000)
    askers = [Asker(budget, 5) for _ in range(5)]

    for asker in askers:
        asker.go()

    assert sum(asker.running for asker in askers) == 3


def test_bytes_are_limited_too_and_the_last_message_may_go_beyond() -> None:
    budget = Budget(100, 25)
    askers = [Asker(budget, 1) for _ in range(5)]

    for asker in askers:
        asker.go()

    assert [asker.running for asker in askers] == [1, 1, 1, 0, 0]


def test_who_asked_in_vain_has_a_turn_when_a_request_ends() -> None:
    budget = Budget(2, 1000)
    askers = [Asker(budget, 1) for _ in range(4)]
    for asker in askers:
        asker.go()

    askers[0].finish()
    askers[1].finish()

    assert [asker.running for asker in askers] == [0, 0, 1, 1]


def test_a_turn_that_is_not_used_goes_to_the_next() -> None:
    budget = Budget(1, 1000)
    first, second, third = (Asker(budget, 1) for _ in range(3))
    for asker in (first, second, third):
        asker.go()
    second.left = 0

    first.finish()

    assert third.running == 1


def test_who_left_is_not_called() -> None:
    budget = Budget(1, 1000)
    first, second = Asker(budget, 1), Asker(budget, 1)
    first.go()
    second.go()

    budget.forget(second.go)
    first.finish()

    assert second.running == 0


# --- shares -------------------------------------------------------------------------------------------


def test_one_subscription_alone_takes_no_more_than_it_leaves() -> None:
    budget = Budget(400, 1 << 30)
    only = Asker(budget, 1000)

    only.go()

    assert only.running == 175


def test_endpoints_that_hold_on_to_requests_do_not_hold_all_of_them() -> None:
    """However many they want, and however often they ask."""
    budget = Budget(400, 1 << 30)
    holding = [Asker(budget, 1000) for _ in range(20)]
    for _ in range(10):
        for asker in holding:
            asker.go()

    others = [Asker(budget, 10) for _ in range(30)]
    for asker in others:
        asker.go()

    assert [asker.running for asker in others] == [1] * 30
    for _ in range(9):
        for asker in others:
            asker.finish()
            asker.go()
    assert [asker.left for asker in others] == [0] * 30


def test_large_messages_of_one_subscription_do_not_take_all_the_bytes() -> None:
    budget = Budget(1000, 800)
    holding, other = Asker(budget, 1000), Asker(budget, 10)

    holding.go()
    other.go()

    assert holding.running == 35
    assert other.running == 10


def test_what_ends_leaves_nothing_behind() -> None:
    budget = Budget(8, 1000)
    asker = Asker(budget, 8)
    asker.go()
    while asker.running:
        asker.finish()

    assert budget._shares == {}
    assert budget.ask(asker.go) == Budget(8, 1000).ask(asker.go)


@given(
    st.integers(1, 20),
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=100),
)
def test_whoever_can_go_on_has_been_told(requests: int, steps: list[tuple[int, bool]]) -> None:
    """After any steps nobody waits who has nothing running while there is a request to be had."""
    budget = Budget(requests, 10_000)
    askers = [Asker(budget, 50) for _ in range(6)]
    for number, goes in steps:
        asker = askers[number]
        if goes:
            asker.go()
        elif asker.running:
            asker.finish()
        running = sum(each.running for each in askers)
        assert running <= requests
        if running < requests:
            idle = [each for each in askers if not each.running and each.left]
            assert not {each.go for each in idle} & budget._waiting.keys()
        assert not any(budget._room(waiting) for waiting in budget._waiting)
