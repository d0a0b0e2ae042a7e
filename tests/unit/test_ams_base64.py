"""Base64 as AMS reads it: where Go says it goes wrong."""

from __future__ import annotations

import base64
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams_grpc.services.ams.base64 import NotBase64Error, least_size, read_base64


@pytest.mark.parametrize(
    "text, wrong",
    [
        ("***", 0),
        ("AAA*", 3),
        ("A", 0),
        ("AA", 0),
        ("AAA", 0),
        ("AAAAAA", 4),
        ("A=", 1),
        ("====", 0),
        ("AA=", 3),
        ("AA=A", 2),
        ("AA==A", 4),
        ("AAA=A", 4),
        ("AA\n=\n=\nA", 7),
        ("AA_-", 2),
        ("AAAü", 3),
        ("A" * 1_000_001 + "*", 1_000_001),
        ("\n" * 999_998 + "AA==" + "\n" * 1_000_000 + "A", 2_000_002),
    ],
)
def test_the_first_wrong_byte_is_named(text: str, wrong: int) -> None:
    with pytest.raises(NotBase64Error) as error:
        read_base64(text.encode())
    assert str(error.value).endswith(f",illegal base64 data at input byte {wrong}")


@given(st.binary(max_size=20), st.integers(1, 8))
def test_line_breaks_count_for_nothing(data: bytes, width: int) -> None:
    text = base64.b64encode(data).decode()
    broken = "\r\n".join(text[at : at + width] for at in range(0, len(text), width))
    assert read_base64(broken.encode()) == data


LETTERS = string.ascii_letters + string.digits + "+/"
NEARLY = st.text(st.sampled_from("AZaz09+/==\r\n*-\0"), max_size=12).map(str.encode)


@given(NEARLY | st.binary(max_size=6))
def test_what_is_wrong_is_found_as_by_going_from_byte_to_byte(text: bytes) -> None:
    expected = first_wrong_byte(text)
    if expected is None:
        assert len(read_base64(text)) >= least_size(text)
        return
    with pytest.raises(NotBase64Error) as error:
        read_base64(text)
    assert str(error.value).endswith(f" {expected}")


def first_wrong_byte(text: bytes) -> int | None:
    """Go's decoder: quanta of four letters, of which the last may end in one or two ``=``."""
    at, quantum = 0, 0
    counting = [place for place, byte in enumerate(text) if byte not in b"\r\n"]
    for at, place in enumerate(counting):
        if chr(text[place]) in LETTERS:
            quantum = (quantum + 1) % 4
            continue
        if text[place] != ord("=") or quantum < 2:
            return place
        rest = counting[at + 1 :]
        if quantum == 2:
            if not rest:
                return len(text)
            if text[rest[0]] != ord("="):
                return rest[0] - 1
            rest = rest[1:]
        return rest[0] if rest else None
    return len(text) - quantum if quantum else None
