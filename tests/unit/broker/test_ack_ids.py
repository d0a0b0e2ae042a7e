"""Ack ids: what they look like, and that no other text passes for one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams_grpc.broker.ack_ids import ACK_ID_CHARS, AckIds, Delivered
from ams_grpc.broker.errors import InvalidArgument

MINE = AckIds(b"secret", 5)


def ack_id(ids: AckIds, epoch: int, grant: int, seq: int) -> str:
    return f"{ids.head(epoch, grant).decode()}{seq:012x}"


VALID = ack_id(MINE, 3, 1_700_000_000_000_000, 42)


@given(
    epoch=st.integers(0, 16**6 - 1),
    grant=st.integers(0, 16**14 - 1),
    seq=st.integers(0, 16**12 - 1),
)
def test_an_ack_id_says_what_was_put_in(epoch: int, grant: int, seq: int) -> None:
    text = ack_id(MINE, epoch, grant, seq)
    assert MINE.parse([text]) == [Delivered(epoch, grant, [seq])]
    assert re.fullmatch("[A-Za-z0-9_-]+", text)
    assert len(text) == ACK_ID_CHARS < 190


def test_ack_ids_of_one_delivery_are_gathered_in_their_order() -> None:
    ids = [ack_id(MINE, 0, grant, seq) for grant, seq in [(7, 3), (8, 1), (7, 2), (7, 3)]]
    assert MINE.parse(ids) == [Delivered(0, 7, [3, 2, 3]), Delivered(0, 8, [1])]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("garbage", id="garbage"),
        pytest.param(VALID[:-1], id="too short"),
        pytest.param(VALID + "0", id="too long"),
        pytest.param(VALID[:-12], id="only a head"),
        pytest.param(" " + VALID[1:], id="blank"),
        pytest.param(VALID[:-12] + "+00000000042", id="sign"),
        pytest.param(VALID[:-12] + "0_0000000042", id="underscore"),
        pytest.param(VALID[:-12] + "0x0000000042", id="prefix"),
        pytest.param(VALID[:-12] + "00000000004G", id="no hexadecimal digit"),
        pytest.param(VALID[:-12] + "00000000004\n", id="line end"),
        pytest.param(VALID[:-12] + "٠٠٠٠٠٠٠٠٠٠٤٢", id="digits of another script"),
        pytest.param(VALID[:-12] + "00000000004é", id="letter beyond ASCII"),
        pytest.param(VALID[:16] + "0x0003" + VALID[22:], id="prefix in the epoch"),
        pytest.param(VALID[:22] + "0x" + VALID[24:], id="prefix in the grant"),
        pytest.param(VALID[:16] + "-" + VALID[17:], id="sign in the epoch"),
        pytest.param(ack_id(AckIds(b"secret", 6), 3, 4, 42), id="of another subscription"),
        pytest.param(ack_id(AckIds(b"other", 5), 3, 4, 42), id="made with another secret"),
    ],
)
def test_what_this_subscription_cannot_have_made_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        MINE.parse([VALID, text])
    assert str(refusal.value) == (
        f"You have passed an invalid ack ID to the service (ack_id={text})."
    )
    assert refusal.value.field == "ack_ids"


@given(st.text(max_size=2 * ACK_ID_CHARS))
def test_no_text_at_all_does_worse_than_being_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        MINE.parse([text])


@given(at=st.integers(0, ACK_ID_CHARS - 1), character=st.characters())
def test_a_changed_character_is_refused_or_a_digit(at: int, character: str) -> None:
    text = VALID[:at] + character + VALID[at + 1 :]
    try:
        MINE.parse([text])
    except InvalidArgument:
        return
    assert character in VALID[at] or (at >= 16 and character in "0123456789abcdef")


def test_leniently_read_only_what_is_malformed_is_left_out() -> None:
    other = ack_id(MINE, 3, 9, 1)
    assert MINE.parse_valid([VALID, "garbage", other]) == [
        *MINE.parse([VALID]),
        *MINE.parse([other]),
    ]
