"""Filters: what they mean, and what is no filter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams_grpc.broker.errors import InvalidArgument
from ams_grpc.broker.filters import MAX_FILTER_BYTES, parse_filter

Attributes = dict[str, str]
MESSAGES: Final[dict[str, Attributes]] = {
    "A": {"lang": "en", "name": "com"},
    "B": {"lang": "en", "name": "net"},
    "C": {"lang": "jp"},
    "D": {},
    "E": {"iana.org/language_tag": "en", "name": ""},
    "F": {"name": "company", "a-b_c": "1"},
}


@pytest.mark.parametrize(
    "text, matching",
    [
        ("attributes:name", "ABEF"),
        ("NOT attributes:name", "CD"),
        ("-attributes:name", "CD"),
        ('attributes.name = "com"', "A"),
        ('attributes.name != "com"', "BCDEF"),
        ('NOT attributes.name = "com"', "BCDEF"),
        ('attributes.name = ""', "E"),
        ('hasPrefix(attributes.name, "co")', "AF"),
        ('hasPrefix(attributes.name, "")', "ABEF"),
        ('NOT hasPrefix(attributes.name, "co")', "BCDE"),
        ('attributes:"iana.org/language_tag"', "E"),
        ('attributes."iana.org/language_tag" = "en"', "E"),
        ('attributes.a-b_c = "1"', "F"),
        ('attributes.lang = "en" AND attributes.name = "com"', "A"),
        ('attributes.lang = "jp" OR attributes.name = "net" OR attributes.name = "com"', "ABC"),
        ('(attributes.lang = "en" OR attributes.lang = "jp") AND attributes:name', "AB"),
        ('(NOT attributes:name) OR attributes.name = "com"', "ACD"),
        ('NOT (attributes:name OR attributes.lang = "jp")', "D"),
        ('attributes.name = "com" AND -attributes:"lang"', ""),
        ('attributes.Name = "com"', ""),
        (r'attributes.name = "\u0063om"', "A"),
        (r'attributes.name = "\x63om"', "A"),
        (r'attributes.name = "\143om"', "A"),
        (r'attributes.name = "\U00000063om"', "A"),
        (' \t\r\nattributes.lang="en"AND attributes:name'.replace('"AND', '" AND'), "AB"),
        ("(attributes:name)AND(attributes:lang)", "AB"),
        ("NOT(attributes:name)", "CD"),
        ("-(attributes:name)", "CD"),
        ("attributes : name", "ABEF"),
        ('hasPrefix ( attributes.name , "co" )', "AF"),
        ("attributes:AND OR attributes:lang", "ABC"),
    ],
)
def test_a_filter_matches(text: str, matching: str) -> None:
    matches = parse_filter(text).matches

    assert [name for name, attributes in MESSAGES.items() if matches(attributes)] == [*matching]


@pytest.mark.parametrize(
    "text",
    [
        "attributes:a AND attributes:b OR attributes:c",
        "attributes:a OR attributes:b AND attributes:c",
        "attributes:a and attributes:b",
        "not attributes:a",
        "attributes.name = com",
        'attributes.name = "com" AND ("net" OR "org")',
        '"com" = attributes.name',
        "attributes.name = attributes.lang",
        'attributes.iana.org/language_tag = "en"',
        r"attributes:\u307F",
        'attributes.name > "a"',
        'attributes.name IN ("a")',
        'data = "x"',
        'name = "com"',
        "hasPrefix(attributes.name)",
        'hasprefix(attributes.name, "a")',
        'hasSuffix(attributes.name, "a")',
        'attributes.name = "a',
        "(attributes:a",
        "attributes:a)",
        "attributes:",
        "attributes",
        "attributes.",
        "AND attributes:a",
        "attributes:a AND",
        "attributes:a attributes:b",
        "attributes:a AND-attributes:b",
        'attributes.a = "b"AND attributes:c',
        "NOT NOT attributes:a",
        "--attributes:a",
        "NOTattributes:a",
        "()",
        "   ",
        'attributes . name = "a"',
        r'attributes.name = "\q"',
        r'attributes.name = "\u12"',
        r'attributes.name = "\ud800"',
        r'attributes.name = "\U00110000"',
        "attributes:é",
    ],
)
def test_what_does_not_follow_the_grammar_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"\(argument=filter: .+ at character \d+\)\.$"):
        parse_filter(text)


def test_the_error_says_what_was_expected_and_where() -> None:
    with pytest.raises(
        InvalidArgument,
        match=r"^You have passed an invalid argument to the service \(argument=filter: expected a "
        r"text in double quotes at character 19\)\.$",
    ) as refused:
        parse_filter("attributes.name = com")

    assert refused.value.field == "filter"


def test_a_filter_has_256_bytes_at_most() -> None:
    longest = 'attributes.a = "%s"'
    room = MAX_FILTER_BYTES - len(longest % "")

    assert parse_filter(longest % ("é" * (room // 2))).matches({"a": "é" * (room // 2)})
    with pytest.raises(InvalidArgument, match="257 bytes exceed the maximum of 256"):
        parse_filter(longest % ("é" * (room // 2) + "aa"))


@pytest.mark.parametrize(
    "before, after", [("(", ")"), ("-(", ")"), ("NOT(", ")"), ("(attributes:a OR ", ")")]
)
def test_a_filter_nests_as_deeply_as_its_length_allows(before: str, after: str) -> None:
    inner = "attributes:a"
    depth = (MAX_FILTER_BYTES - len(inner)) // (len(before) + len(after))
    negated = before in {"-(", "NOT("} and depth % 2 == 1

    matches = parse_filter(before * depth + inner + after * depth).matches

    assert matches({"a": ""}) is not negated


@pytest.mark.parametrize(
    "text, needles",
    [
        ("attributes:name", {b"name"}),
        ('attributes:"n\u00e4me"', {"näme".encode()}),
        ('attributes.name = "com"', {b"com"}),
        ('attributes.name = ""', {b"name"}),
        ('hasPrefix(attributes.name, "co")', {b"co"}),
        ('attributes.name != "com"', set()),
        ("NOT attributes:name", set()),
        ("attributes:a OR attributes:b", {b"a", b"b"}),
        ("attributes:a OR NOT attributes:b", set()),
        ("attributes:a AND NOT attributes:b", {b"a"}),
        ('attributes.a = "x" AND attributes.b = "longer"', {b"longer"}),
        ('attributes.a = "xyz" AND (attributes:b OR attributes:cdef)', {b"xyz"}),
        ('attributes:""', set()),
    ],
)
def test_a_message_that_matches_has_one_of_the_filters_needles(
    text: str, needles: set[bytes]
) -> None:
    assert set(parse_filter(text).needles) == needles


# --- any filter ---------------------------------------------------------------------------------

Meaning = tuple[str, Callable[[Attributes], bool]]
"""A filter as text, and what it means, said in another way."""

words = st.sampled_from(["a", "b", "name", "x-y_1", "é", "a.b", 'q"\\', "AND", ""])
blanks = st.sampled_from([" ", "\t", "  ", "\n"])


def quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def as_key(key: str) -> str:
    return key if key in {"a", "b", "name", "x-y_1", "AND"} else quoted(key)


@st.composite
def simple(draw: st.DrawFn) -> Meaning:
    key, value = draw(words), draw(words)
    match draw(st.integers(0, 3)):
        case 0:
            return f"attributes:{as_key(key)}", lambda given: key in given
        case 1:
            return (
                f"attributes.{as_key(key)} = {quoted(value)}",
                lambda given: key in given and given[key] == value,
            )
        case 2:
            return (
                f"attributes.{as_key(key)}!={quoted(value)}",
                lambda given: key not in given or given[key] != value,
            )
        case _:
            return (
                f"hasPrefix(attributes.{as_key(key)},{quoted(value)})",
                lambda given: key in given and given[key][: len(value)] == value,
            )


def combined(parts: st.SearchStrategy[Meaning]) -> st.SearchStrategy[Meaning]:
    @st.composite
    def combine(draw: st.DrawFn) -> Meaning:
        chosen = draw(st.lists(parts, min_size=1, max_size=3))
        operator = draw(st.sampled_from(["AND", "OR"]))
        gap = draw(blanks)
        inner = f"{gap}{operator}{gap}".join(f"({text})" for text, _ in chosen)
        negation = draw(st.sampled_from(["", "NOT ", "-"]))
        together = all if operator == "AND" else any
        meanings = [meaning for _, meaning in chosen]
        return (
            f"{negation}({inner})",
            lambda given: together(m(given) for m in meanings) != bool(negation),
        )

    return combine()


filters = st.recursive(simple(), combined, max_leaves=5).filter(
    lambda meaning: len(meaning[0].encode()) <= MAX_FILTER_BYTES
)
attributes = st.dictionaries(words, st.one_of(words, words.map(lambda word: word + "more")))


@given(filters, attributes)
def test_a_filter_means_what_its_parts_mean(meaning: Meaning, given: Attributes) -> None:
    text, matches = meaning

    assert parse_filter(text).matches(given) is matches(given)


@given(filters, st.lists(attributes, max_size=5))
def test_the_messages_selected_are_those_that_match(
    meaning: Meaning, given: list[Attributes]
) -> None:
    text, matches = meaning
    serialized = {
        b"%d " % i + repr([(k, v) for k, v in each.items()]).replace("\\\\", "\\").encode(): each
        for i, each in enumerate(given)
    }

    selected = parse_filter(text).select(list(serialized), serialized.__getitem__)

    assert selected == [
        message if matches(attributes) else None for message, attributes in serialized.items()
    ]


@given(st.text(max_size=60))
def test_any_text_is_a_filter_or_is_refused(text: str) -> None:
    try:
        parsed = parse_filter(text)
    except InvalidArgument:
        return
    assert parsed.matches({}) in {True, False}
