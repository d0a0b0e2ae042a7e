"""The JSON of a message, as AMS reads it: the first value counts, whatever follows.

orjson reads what is right, and a pass over the tokens finds what is wrong, in the words of Go's
parser, which AMS shows. It takes over only when orjson refuses: then there may be text behind the
value, or no UTF-8 in it, which AMS takes.
"""

from __future__ import annotations

import json
import re
from typing import Final, NoReturn

import orjson

from ams_grpc.schemas.errors import MessageError

_SPACE: Final = re.compile(rb"[ \t\r\n]*")
_PLAIN: Final = re.compile(rb'[^"\\\x00-\x1f]*')
_DIGITS: Final = re.compile(rb"[0-9]*")
# Most of what is in an array, all at once.
_ITEMS: Final = re.compile(
    rb"""(?:[ \t\r\n]*(?:-?(?:0|[1-9][0-9]*+)|"[^"\\\x00-\x1f]*+")[ \t\r\n]*,)*+"""
)
_DEEPEST: Final = 10_000  # in Go
_LITERALS: Final = {ord("t"): b"true", ord("f"): b"false", ord("n"): b"null"}
_HEX: Final = frozenset(b"0123456789abcdefABCDEF")
_MAX_DIGITS: Final = 300  # of an integer; what is longer is as good as infinite


def first_value(data: bytes) -> object:
    """Raises MessageError: ``data`` begins with no JSON value."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    scanner = _Scanner(data)
    try:
        scanner.pass_value()
    except _BadJson as error:
        raise MessageError(f"data is not valid JSON format,{error}") from None
    text = data[: scanner.at].decode(errors="replace")
    try:
        value = json.loads(text, parse_int=_integer)
        if "\\u" in text:  # half a character may be escaped: it becomes U+FFFD
            whole = json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass")
            value = json.loads(whole.decode("utf-16", "replace"), parse_int=_integer)
    except RecursionError:
        raise MessageError("data is not valid JSON format,exceeded max depth") from None
    return value


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_DIGITS else float(digits)


class _BadJson(Exception):
    """Says where Go stops, and why."""


class _Scanner:
    """Goes over one value, without recursion."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def pass_value(self) -> None:
        """Raises _BadJson."""
        self._pass_space()
        if self.at == len(self._data):
            raise _BadJson("EOF")
        inside: list[int] = []  # which brackets are open
        while True:
            opened = self._begin_value()
            if opened:
                inside.append(opened)
                if len(inside) > _DEEPEST:
                    self.at -= 1
                    self._refuse("exceeded max depth")
                self._pass_space()
                if self._peek() == opened + 2:  # in ASCII, two behind the opening bracket
                    self.at += 1
                    inside.pop()
                else:
                    self._begin_item(opened)
                    continue
            while inside and self._ends_after_item(inside[-1]):
                inside.pop()
            if not inside:
                return

    def _begin_value(self) -> int:
        """Pass over a value, or the bracket that opens it, which is returned."""
        first = self._peek()
        if first in b"[{":
            self.at += 1
            return first
        if first == ord('"'):
            self._pass_string()
        elif first in b"-0123456789":
            self._pass_number()
        elif first in _LITERALS:
            self._pass_literal(_LITERALS[first])
        else:
            self._refuse("looking for beginning of value")
        return 0

    def _begin_item(self, opened: int) -> None:
        """Pass over what stands before a value: in an object, its key."""
        if opened == ord("["):
            self.at = _end(_ITEMS, self._data, self.at)
            self._pass_space()
            return
        self._pass_space()
        if self._peek() != ord('"'):
            self._refuse("looking for beginning of object key string")
        self._pass_string()
        self._pass_space()
        if self._peek() != ord(":"):
            self._refuse("after object key")
        self.at += 1
        self._pass_space()

    def _ends_after_item(self, opened: int) -> bool:
        self._pass_space()
        byte = self._peek()
        if byte == ord(","):
            self.at += 1
            self._begin_item(opened)
            return False
        if byte != opened + 2:
            what = "array element" if opened == ord("[") else "object key:value pair"
            self._refuse(f"after {what}")
        self.at += 1
        return True

    def _pass_space(self) -> None:
        self.at = _end(_SPACE, self._data, self.at)

    def _pass_string(self) -> None:
        self.at += 1
        while True:
            self.at = _end(_PLAIN, self._data, self.at)
            byte = self._peek()
            if byte < 0x20:
                self._refuse("in string literal")
            self.at += 1
            if byte == ord('"'):
                return
            escape = self._peek()
            if escape not in b'bfnrt\\/"u':
                self._refuse("in string escape code")
            self.at += 1
            for _ in range(4 if escape == ord("u") else 0):
                if self._peek() not in _HEX:
                    self._refuse("in \\u hexadecimal character escape")
                self.at += 1

    def _pass_number(self) -> None:
        if self._peek() == ord("-"):
            self.at += 1
            if self._peek() not in b"0123456789":
                self._refuse("in numeric literal")
        if self._peek() == ord("0"):
            self.at += 1
        else:
            self._pass_digits("")
        if self._data[self.at : self.at + 1] == b".":
            self.at += 1
            self._pass_digits("after decimal point in numeric literal")
        if self._data[self.at : self.at + 1] in {b"e", b"E"}:
            self.at += 1
            if self._peek() in b"+-":
                self.at += 1
            self._pass_digits("in exponent of numeric literal")

    def _pass_digits(self, where: str) -> None:
        end = _end(_DIGITS, self._data, self.at)
        if end == self.at:
            self._refuse(where)
        self.at = end

    def _pass_literal(self, literal: bytes) -> None:
        for expected in literal:
            if self._peek() != expected:
                self._refuse(f"in literal {literal.decode()} (expecting '{chr(expected)}')")
            self.at += 1

    def _peek(self) -> int:
        if self.at >= len(self._data):
            raise _BadJson("unexpected EOF")
        return self._data[self.at]

    def _refuse(self, where: str) -> NoReturn:
        raise _BadJson(f"invalid character {_shown(self._peek())} {where}")


def _end(pattern: re.Pattern[bytes], data: bytes, at: int) -> int:
    match = pattern.match(data, at)
    return at if match is None else match.end()


def _shown(byte: int) -> str:
    """Go shows a byte as the character of that number."""
    special = {ord("'"): "\\'", ord("\\"): "\\\\", 7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n"}
    special |= {11: "\\v", 12: "\\f", 13: "\\r"}
    if byte in special:
        return f"'{special[byte]}'"
    printable = 0x20 <= byte < 0x7F or (byte > 0xA0 and byte != 0xAD)
    code = f"\\u{byte:04x}" if byte >= 0x80 else f"\\x{byte:02x}"
    return f"'{chr(byte) if printable else code}'"
