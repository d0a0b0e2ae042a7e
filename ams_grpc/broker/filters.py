"""Filters of subscriptions: a text, parsed once into a predicate over a message's attributes.

    filter   = expr                      blanks may stand around it
    expr     = term { AND term } | term { OR term }       never both without parentheses
    term     = [ NOT | - ] simple
    simple   = ( expr )
             | attributes : key          the key is there
             | attributes.key = "value"  | attributes.key != "value"
             | hasPrefix(attributes.key, "prefix")
    key      = letters, digits, _ and -; anything else in quotes

AND, OR and NOT stand between blanks or parentheses. Pub/Sub: message filtering.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn, TypeAlias

from ams_grpc.broker.errors import InvalidArgument, invalid_argument

MAX_FILTER_BYTES: Final = 256
"""Pub/Sub: limit of a filter. It also bounds how deeply one can be nested."""

Attributes: TypeAlias = Mapping[str, str]
AttributesOf: TypeAlias = Callable[[bytes], Attributes]
"""Reads the attributes of a serialized message."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What a filter says.

    ``matches`` tells it from a message's attributes. ``needles`` spare most messages that much: one
    that matches has one of them somewhere among its bytes, where keys and values stand as UTF-8.
    Without needles any message may match.
    """

    matches: Callable[[Attributes], bool]
    needles: tuple[bytes, ...] = ()

    def select(self, messages: Sequence[bytes], attributes_of: AttributesOf) -> list[bytes | None]:
        """The serialized messages, with None for those that do not match."""
        matches, needles = self.matches, self.needles
        if len(needles) == 1:
            needle = needles[0]
            return [
                message if needle in message and matches(attributes_of(message)) else None
                for message in messages
            ]
        if needles:
            could = re.compile(b"|".join(map(re.escape, needles))).search
            return [
                message if could(message) and matches(attributes_of(message)) else None
                for message in messages
            ]
        return [message if matches(attributes_of(message)) else None for message in messages]


def parse_filter(text: str) -> Filter:
    """Raises InvalidArgument, which says where the text goes wrong.

    Pub/Sub: an empty filter lets everything through; callers look for that themselves.
    """
    size = len(text.encode())
    if size > MAX_FILTER_BYTES:
        raise _invalid(f"{size} bytes exceed the maximum of {MAX_FILTER_BYTES}")
    return _Parser(text).parse()


def _invalid(detail: str) -> InvalidArgument:
    return invalid_argument(f"filter: {detail}", field="filter")


# --- what filters are made of -------------------------------------------------------------------


def _has(key: str) -> Filter:
    return Filter(lambda attributes: key in attributes, _needles(key))


def _equals(key: str, value: str) -> Filter:
    return Filter(lambda attributes: attributes.get(key) == value, _needles(value or key))


def _has_prefix(key: str, prefix: str) -> Filter:
    def matches(attributes: Attributes) -> bool:
        value = attributes.get(key)
        return value is not None and value.startswith(prefix)

    return Filter(matches, _needles(prefix or key))


def _not(part: Filter) -> Filter:
    matches = part.matches
    return Filter(lambda attributes: not matches(attributes))


def _all(parts: Sequence[Filter]) -> Filter:
    """All have to match, so the needles of any one will do: those that are found least often."""
    each = [part.matches for part in parts]
    return Filter(
        lambda attributes: all(matches(attributes) for matches in each),
        max(
            (part.needles for part in parts), key=lambda needles: min(map(len, needles), default=0)
        ),
    )


def _any(parts: Sequence[Filter]) -> Filter:
    each = [part.matches for part in parts]
    needles = tuple(dict.fromkeys(needle for part in parts for needle in part.needles))
    return Filter(
        lambda attributes: any(matches(attributes) for matches in each),
        needles if all(part.needles for part in parts) else (),
    )


def _needles(text: str) -> tuple[bytes, ...]:
    return (text.encode(),) if text else ()


# --- parsing ------------------------------------------------------------------------------------

_BLANKS: Final = re.compile(r"[ \t\r\n]*")
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_STRING: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE: Final = re.compile(
    r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|x([0-9A-Fa-f]{2})|([0-7]{3})|(.))", re.DOTALL
)
_ESCAPED: Final = {
    **{character: character for character in "\\\"'?"},
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "v": "\v",
}
_COMBINATIONS: Final = {"AND": _all, "OR": _any}


class _Parser:
    """One reading of one text, by recursive descent; ``_at`` is how far it came."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def parse(self) -> Filter:
        parsed = self._expression()
        if self._at < len(self._text):
            self._fail("expected AND, OR or the end")
        return parsed

    def _expression(self) -> Filter:
        """With the blanks around it."""
        self._skip_blanks()
        parts = [self._term()]
        chosen = ""
        while operator := self._operator():
            if chosen and operator != chosen:
                self._fail("AND and OR are mixed: put parentheses around one of them")
            chosen = operator
            parts.append(self._term())
        return _COMBINATIONS[chosen](parts) if chosen else parts[0]

    def _operator(self) -> str:
        """The operator that follows, with the blanks around it; empty if there is none."""
        was_apart = self._text[self._at - 1] == ")"
        apart = self._skip_blanks() or was_apart
        for operator in _COMBINATIONS:
            if self._next_is(operator):
                if not apart:
                    self._fail(f"expected a blank before {operator}")
                self._take_word(operator)
                return operator
        return ""

    def _term(self) -> Filter:
        if self._next_is("NOT"):
            self._take_word("NOT")
            return _not(self._simple())
        if self._take("-"):
            return _not(self._simple())
        return self._simple()

    def _simple(self) -> Filter:
        if self._take("("):
            inner = self._expression()
            self._expect(")")
            return inner
        if self._take("hasPrefix"):
            return self._prefix()
        if not self._take("attributes"):
            self._fail("expected attributes, hasPrefix, NOT, - or (")
        if self._take("."):
            return self._comparison()
        self._skip_blanks()
        self._expect(":", "expected . or : after attributes")
        self._skip_blanks()
        return _has(self._key())

    def _comparison(self) -> Filter:
        key = self._key()
        self._skip_blanks()
        differs = self._take("!=")
        if not differs:
            self._expect("=", "expected = or !=")
        self._skip_blanks()
        equal = _equals(key, self._string())
        return _not(equal) if differs else equal

    def _prefix(self) -> Filter:
        self._skip_blanks()
        self._expect("(")
        self._skip_blanks()
        self._expect("attributes.")
        key = self._key()
        self._skip_blanks()
        self._expect(",")
        self._skip_blanks()
        prefix = self._string()
        self._skip_blanks()
        self._expect(")")
        return _has_prefix(key, prefix)

    def _key(self) -> str:
        bare = _BARE_KEY.match(self._text, self._at)
        if bare is not None:
            self._at = bare.end()
            return bare.group()
        if not self._next_is('"'):
            self._fail("expected a key")
        return self._string()

    def _string(self) -> str:
        quoted = _STRING.match(self._text, self._at)
        if quoted is None:
            self._fail("expected a text in double quotes")
        value = _ESCAPE.sub(self._unescaped, quoted.group(1))
        self._at = quoted.end()
        return value

    def _unescaped(self, escape: re.Match[str]) -> str:
        *codes, single = escape.groups()
        if single is not None:
            if single not in _ESCAPED:
                self._fail(f"there is no escape \\{single}")
            return _ESCAPED[single]
        octal = codes.pop()
        code = int(octal, 8) if octal else int(next(filter(None, codes)), 16)
        if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            self._fail(f"{escape.group()} is no character")
        return chr(code)

    # --- single characters -----------------------------------------------------------------------

    def _skip_blanks(self) -> bool:
        """True if there were any."""
        start = self._at
        blanks = _BLANKS.match(self._text, start)
        self._at = start if blanks is None else blanks.end()
        return self._at > start

    def _next_is(self, token: str) -> bool:
        return self._text.startswith(token, self._at)

    def _take(self, token: str) -> bool:
        found = self._next_is(token)
        if found:
            self._at += len(token)
        return found

    def _take_word(self, word: str) -> None:
        """Take an operator, and the blanks after it, which only a parenthesis can stand for."""
        self._take(word)
        if not self._skip_blanks() and not self._next_is("("):
            self._fail(f"expected a blank after {word}")

    def _expect(self, token: str, otherwise: str = "") -> None:
        if not self._take(token):
            self._fail(otherwise or f"expected {token}")

    def _fail(self, what: str) -> NoReturn:
        raise _invalid(f"{what} at character {self._at + 1}")
