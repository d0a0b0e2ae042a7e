"""Pages of lists and their tokens."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams_grpc.broker.errors import InvalidArgument
from ams_grpc.services.pages import Page

NAMES = [f"projects/p/topics/t{number:04}" for number in range(25)]


def page(page_size: int = 10, page_token: str = "") -> Page:
    return Page.asked_for("topics", "projects/p", page_size, page_token)


def fetch(wanted: Page, names: list[str]) -> list[str]:
    """What a store answers: names after the page's start, at most its limit."""
    return [name for name in sorted(names) if name > wanted.after][: wanted.limit]


@pytest.mark.parametrize("page_size, size", [(0, 1000), (1, 1), (1000, 1000)])
def test_a_page_has_1_to_1000_items_and_by_default_1000(page_size: int, size: int) -> None:
    assert page(page_size).size == size


@pytest.mark.parametrize("page_size", [-1, 1001])
def test_other_page_sizes_are_refused(page_size: int) -> None:
    with pytest.raises(InvalidArgument) as caught:
        page(page_size)

    assert caught.value.message == (
        f"The value for page_size is out of bounds. You passed {page_size} in the request, "
        "but the value must be between 0 and 1000."
    )
    assert caught.value.field == "page_size"


def test_the_first_page_starts_at_the_beginning() -> None:
    assert page(page_token="").after == ""


@given(size=st.integers(1, 30), count=st.integers(0, 25))
def test_pages_together_are_the_list(size: int, count: int) -> None:
    names, seen, token = NAMES[:count], list[str](), ""
    for _ in range(count + 1):
        wanted = page(size, token)
        shown, token = wanted.cut(fetch(wanted, names))
        seen += shown
        if not token:
            break

    assert seen == names
    assert not token


@pytest.mark.parametrize("count", [0, 9, 10])
def test_the_last_page_has_no_token_even_when_it_is_full(count: int) -> None:
    shown, token = page(10).cut(NAMES[:count])

    assert (list(shown), token) == (NAMES[:count], "")


def test_a_token_stays_good_when_its_resource_is_deleted() -> None:
    first = page(10)
    shown, token = first.cut(fetch(first, NAMES))
    left = [name for name in NAMES if name != shown[-1]]

    second = page(10, token)

    assert fetch(second, left)[0] == NAMES[10]


def test_records_are_cut_by_their_names() -> None:
    records = [(name, "more") for name in NAMES]

    shown, token = page(10).cut(records, name=lambda record: record[0])

    assert len(shown) == 10
    assert page(10, token).after == NAMES[9]


@given(name=st.text(min_size=1))
def test_a_token_is_safe_in_urls(name: str) -> None:
    _, token = page(1).cut([name, "another"])

    assert set(token) <= set(string.ascii_letters + string.digits + "-_")
    assert page(1, token).after == name


@pytest.mark.parametrize(
    "token", ["garbage", "a", "====", "AQ", "not base64!", "ü", "\0", "A" * 10_000]
)
def test_garbage_is_refused_and_shown(token: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        page(page_token=token)

    assert caught.value.message == f"Invalid page token given (token={token})."
    assert caught.value.field == "page_token"


@given(garbage=st.text(min_size=1))
def test_no_token_can_be_guessed(garbage: str) -> None:
    with pytest.raises(InvalidArgument):
        page(page_token=garbage)


@pytest.mark.parametrize(
    "kind, parent",
    [("topics", "projects/other"), ("subscriptions", "projects/p"), ("topics", "")],
)
def test_a_token_of_another_list_is_refused(kind: str, parent: str) -> None:
    _, token = page(10).cut(NAMES)

    with pytest.raises(InvalidArgument, match="Invalid page token given"):
        Page.asked_for(kind, parent, 10, token)


@pytest.mark.parametrize("change", ["{}=", "{}A", "A{}", " {}", "{}\n"])
def test_a_changed_token_is_refused(change: str) -> None:
    _, token = page(10).cut(NAMES)

    with pytest.raises(InvalidArgument):
        page(10, change.format(token))
