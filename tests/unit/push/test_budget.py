"""What all push requests may take together."""

from __future__ import annotations

from ams_grpc.push.budget import Budget


class Asker:
    """A worker that has ``left`` requests to make."""

    def __init__(self, budget: Budget, left: int) -> None:
        self.budget = budget
        self.left = left
        self.running = 0

    def go(self) -> None:
        while self.left and self.budget.ask(self.go):
            self.budget.take(10)
            self.left -= 1
            self.running += 1

    def finish(self) -> None:
        self.running -= 1
        self.budget.give(10)


def test_no_more_requests_run_at_once_than_the_budget_has() -> None:
    budget = Budget(3, 1000)
    first, second = Asker(budget, 5), Asker(budget, 5)

    first.go()
    second.go()

    assert (first.running, second.running) == (3, 0)


def test_bytes_are_limited_too_and_the_last_message_may_go_beyond() -> None:
    budget = Budget(100, 25)
    asker = Asker(budget, 5)

    asker.go()

    assert asker.running == 3


def test_who_asked_in_vain_has_a_turn_when_a_request_ends() -> None:
    budget = Budget(2, 1000)
    first, second, third = (Asker(budget, 2) for _ in range(3))
    for asker in (first, second, third):
        asker.go()

    first.finish()
    first.finish()

    assert (second.running, third.running) == (1, 1)


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
