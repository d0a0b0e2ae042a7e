"""Base64 as AMS reads it: where Go says it goes wrong."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams_grpc.services.ams.base64 import NotBase64Error, read_base64


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
