"""The JSON of a message: the first value counts, and what is wrong is said in Go's words."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ams_grpc.schemas.errors import MessageError
from ams_grpc.schemas.json_document import first_value


@pytest.mark.parametrize(
    "data, value",
    [
        (b" [1] and more", [1]),
        (b"01", 0),
        (b'{"a": 1, "a": 2} {', {"a": 2}),
        (b'"\xff"', "�"),
        (b'["\\ud800", "\\ud83d\\ude00"]', ["�", "\U0001f600"]),
        (b"1e999", float("inf")),
        (b"1" * 5000, float("inf")),
    ],
)
def test_what_others_refuse_and_ams_takes(data: bytes, value: object) -> None:
    assert first_value(data) == value


@pytest.mark.parametrize(
    "data, said",
    [
        (b"", "EOF"),
        (b" \n", "EOF"),
        (b"[1,", "unexpected EOF"),
        (b'{"a"', "unexpected EOF"),
        (b"-", "unexpected EOF"),
        (b"tru", "unexpected EOF"),
        (b"nope", "invalid character 'o' in literal null (expecting 'u')"),
        (b"]", "invalid character ']' looking for beginning of value"),
        (b"[1,]", "invalid character ']' looking for beginning of value"),
        (b"\xef\xbb\xbf1", "invalid character 'ï' looking for beginning of value"),
        (b"\x01", "invalid character '\\x01' looking for beginning of value"),
        (b"'a'", "invalid character '\\'' looking for beginning of value"),
        (b"{1", "invalid character '1' looking for beginning of object key string"),
        (b'{"a": 1,}', "invalid character '}' looking for beginning of object key string"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a": 1 "b"}', "invalid character '\"' after object key:value pair"),
        (b"[1 2]", "invalid character '2' after array element"),
        (b"[1}", "invalid character '}' after array element"),
        (b'"a\nb"', "invalid character '\\n' in string literal"),
        (b'"\\x"', "invalid character 'x' in string escape code"),
        (b'"\\u12g4"', "invalid character 'g' in \\u hexadecimal character escape"),
        (b"-x", "invalid character 'x' in numeric literal"),
        (b"1.x", "invalid character 'x' after decimal point in numeric literal"),
        (b"1e+x", "invalid character 'x' in exponent of numeric literal"),
        (b"[" * 10_001, "invalid character '[' exceeded max depth"),
        (b"[" * 9_000 + b"]" * 9_000, "exceeded max depth"),
        (b'[1, "a", -2 , "b" "c"]', "invalid character '\"' after array element"),
        (b"[1, 2, 03]", "invalid character '3' after array element"),
    ],
)
def test_what_is_no_json(data: bytes, said: str) -> None:
    with pytest.raises(MessageError) as error:
        first_value(data)
    assert str(error.value) == f"data is not valid JSON format,{said}"


def read(load: Any, data: bytes) -> object:
    """A value, or ValueError in place of one."""
    try:
        return load(data)
    except (ValueError, MessageError):
        return ValueError


@settings(deadline=None)
@given(st.lists(st.sampled_from(b'{}[]:,"\\ \n01-.eEtrufalsn'), max_size=12).map(bytes))
def test_a_whole_document_is_what_it_is_to_others(data: bytes) -> None:
    value = read(orjson.loads, data)
    found = read(first_value, data)
    if value is not ValueError:
        assert found == value
    elif found is not ValueError:  # there is something behind it, or it is a number too large
        text = data.decode()
        _, end = json.JSONDecoder().raw_decode(text.lstrip(" \n"))
        assert text.lstrip(" \n")[end:].strip(" \n") or "e" in text.lower()
