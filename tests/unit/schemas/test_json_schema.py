"""JSON Schema as AMS has it: what is taken, and in which words the rest is refused."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ams_grpc.schemas.errors import DefinitionError, MessageError
from ams_grpc.schemas.json_findings import MAX_VIOLATIONS
from ams_grpc.schemas.json_schema import JsonSchema
from ams_grpc.schemas.patterns import MAX_PATTERNS


def refusal(schema: Any, document: Any) -> str:
    """What is said of a document; empty if it is taken."""
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    try:
        JsonSchema(json.dumps(schema)).check_json(data)
    except MessageError as error:
        return str(error)
    return ""


def violation(schema: Any, document: Any) -> str:
    """The only one."""
    summary, comma, text = refusal(schema, document).partition(",")
    assert (summary, comma) == ("data is not valid", ",")
    return text


ORDER = {
    "type": "object",
    "properties": {"id": {"type": "integer"}, "email": {"type": "string", "format": "email"}},
    "required": ["id", "email"],
}


@pytest.mark.parametrize(
    "document, said",
    [
        ({"id": 1, "email": "a@b.co"}, ""),
        ({"id": 1.0, "email": "a@b.co", "more": None}, ""),
        (b'{"id": 1, "email": "a@b.co"} and what follows', ""),
        (
            {"id": "x", "email": "a@b.co"},
            "data is not valid,id: Invalid type. Expected: integer, given: string",
        ),
        ({"email": "a@b.co"}, "data is not valid,(root): id is required"),
        ({}, "data is not valid.1)(root): id is required.2)(root): email is required."),
        ({"id": 1, "email": "x"}, "data is not valid,email: Does not match format 'email'"),
        (b"", "data is not valid JSON format,EOF"),
        (
            b"nope",
            "data is not valid JSON format,invalid character 'o' in literal null (expecting 'u')",
        ),
    ],
)
def test_an_order(document: Any, said: str) -> None:
    assert refusal(ORDER, document) == said


@pytest.mark.parametrize(
    "schema, document, said",
    [
        ({"type": ["array", "null"]}, 1.5, "Invalid type. Expected: [array,null], given: number"),
        (
            {"enum": ["a", 1, {"b": [1]}]},
            "b",
            '(root) must be one of the following: "a", 1, {"b":[1]}',
        ),
        ({"const": {"a": 1}}, {"a": 2}, '(root) does not match: {"a":1}'),
        ({"not": {"type": "string"}}, "x", "Must not validate the schema (not)"),
        ({"oneOf": [True, True]}, 1, "Must validate one and only one schema (oneOf)"),
        ({"dependencies": {"a": ["b"]}}, {"a": 1}, "Has a dependency on b"),
        ({"additionalProperties": False}, {"x": 1}, "Additional property x is not allowed"),
        ({"minProperties": 1}, {}, "Must have at least 1 properties"),
        ({"maxProperties": 1}, {"a": 1, "b": 2}, "Must have at most 1 properties"),
        ({"items": [{}], "additionalItems": False}, [1, 2], "No additional items allowed on array"),
        ({"minItems": 2}, [1], "Array must have at least 2 items"),
        ({"maxItems": 0}, [1], "Array must have at most 0 items"),
        ({"uniqueItems": True}, [1, 2, 1.0], "array items[0,2] must be unique"),
        ({"contains": {"type": "null"}}, [], "At least one of the items must match"),
        ({"minLength": 2}, "ü", "String length must be greater than or equal to 2"),
        ({"maxLength": 1}, "üü", "String length must be less than or equal to 1"),
        ({"pattern": "^a+$"}, "b", "Does not match pattern '^a+$'"),
        ({"format": "ipv4"}, "1.2.3", "Does not match format 'ipv4'"),
        ({"multipleOf": 0.1}, 0.35, "Must be a multiple of 0.1"),
        ({"minimum": 5}, 4, "Must be greater than or equal to 5"),
        ({"exclusiveMinimum": 5}, 5, "Must be greater than 5"),
        ({"minimum": 5, "exclusiveMinimum": True}, 5, "Must be greater than 5"),
        ({"maximum": 0.5}, 1, "Must be less than or equal to 0.5"),
        ({"exclusiveMaximum": 1000000}, 1000000, "Must be less than 1000000"),
        (False, 1, "False always fails validation"),
    ],
)
def test_what_is_said_of_the_document_itself(schema: Any, document: Any, said: str) -> None:
    assert violation(schema, document) == f"(root): {said}"


@pytest.mark.parametrize(
    "schema, document, said",
    [
        (
            {"properties": {"a": {"items": {"const": 1}}}},
            {"a": [1, 2]},
            ["a.1: 1 does not match: 1"],
        ),
        (
            {
                "anyOf": [
                    {"type": "string"},
                    {"properties": {"n": {"minimum": 3}}, "minProperties": 1},
                ]
            },
            {"n": 1},
            [
                "(root): Must validate at least one schema (anyOf)",
                "n: Must be greater than or equal to 3",
            ],
        ),
        (
            {"allOf": [{"required": ["a"]}, {"required": ["b"]}]},
            {},
            [
                "(root): Must validate all the schemas (allOf)",
                "(root): a is required",
                "(root): b is required",
            ],
        ),
        (
            {"if": {"required": ["a"]}, "then": {"required": ["b"]}},
            {"a": 1},
            ['(root): Must validate "then" as "if" was valid', "(root): b is required"],
        ),
        (
            {"if": {"required": ["a"]}, "else": {"required": ["b"]}},
            {},
            ['(root): Must validate "else" as "if" was not valid', "(root): b is required"],
        ),
        (
            {"propertyNames": {"maxLength": 1}},
            {"ab": 1},
            [
                '(root): Property name of "ab" does not match',
                "(root): String length must be less than or equal to 1",
            ],
        ),
        (
            {
                "patternProperties": {"^n": {"type": "number"}},
                "additionalProperties": {"minLength": 1},
            },
            {"n": "", "m": ""},
            [
                "n: Invalid type. Expected: number, given: string",
                "m: String length must be greater than or equal to 1",
            ],
        ),
    ],
)
def test_where_it_is_wrong(schema: Any, document: Any, said: list[str]) -> None:
    numbered = "".join(f"{number}){each}." for number, each in enumerate(said, 1))
    expected = f",{said[0]}" if len(said) == 1 else f".{numbered}"
    assert refusal(schema, document) == f"data is not valid{expected}"


NO_TYPE = (
    "has a primitive type that is NOT VALID -- given: /unknown/ Expected valid values are:"
    "[array boolean integer number null object string]"
)


@pytest.mark.parametrize(
    "schema, said",
    [
        (None, "schema is invalid"),
        (
            {"type": "unknown"},
            NO_TYPE,
        ),
        ({"type": 5}, "Invalid type. Expected: string/array of strings, given: type"),
        ({"required": "id"}, "required must be of an array"),
        ({"properties": 5}, "properties must be of type object"),
        ({"properties": {"a": 5}}, "properties must be of type object"),
        ({"pattern": "("}, "pattern must be a valid regex"),
        ({"pattern": "(?=lookahead)"}, "pattern must be a valid regex"),
        ({"minimum": "1"}, "minimum must be of a number"),
        ({"minLength": 1.5}, "minLength must be of an integer"),
        ({"maxItems": -1}, "maxItems must be greater than or equal to 0"),
        ({"multipleOf": 0}, "multipleOf must be strictly greater than 0"),
        ({"$ref": "#/definitions/x"}, "Object has no key 'definitions'"),
        (
            {"$ref": "http://example.org/x#/a"},
            "Reference http://example.org/x#/a leads out of the schema, and is not followed",
        ),
        (
            {"$ref": "file:///etc/passwd"},
            "Reference file:///etc/passwd leads out of the schema, and is not followed",
        ),
    ],
)
def test_what_is_said_of_a_bad_definition(schema: Any, said: str) -> None:
    with pytest.raises(DefinitionError) as error:
        JsonSchema(json.dumps(schema))
    assert str(error.value) == said


@pytest.mark.parametrize(
    "schema, good, bad",
    [
        ({"items": {"$ref": "#"}, "type": "array"}, [[], [[]]], [[1]]),
        ({"$ref": "#/definitions/a~1b", "definitions": {"a/b": {"type": "null"}}}, None, 1),
        (
            {"allOf": [{"$ref": "#it"}], "definitions": {"x": {"$id": "#it", "type": "null"}}},
            None,
            1,
        ),
        (
            {
                "$id": "http://example.org/order.json",
                "properties": {"n": {"$ref": "part.json#/definitions/n"}},
                "definitions": {
                    "part": {"$id": "part.json", "definitions": {"n": {"type": "integer"}}}
                },
            },
            {"n": 1},
            {"n": "x"},
        ),
    ],
)
def test_references_lead_to_places_in_the_definition(schema: Any, good: Any, bad: Any) -> None:
    assert refusal(schema, good) == ""
    assert refusal(schema, bad) != ""


@pytest.mark.parametrize(
    "uri, takes",
    [
        ("http://json-schema.org/draft-04/schema#", True),  # it knows no const, and no if
        ("http://json-schema.org/draft-06/schema#", False),
        ("http://example.org/unknown", False),
    ],
)
def test_a_draft_knows_its_own_keywords_only(uri: str, *, takes: bool) -> None:
    assert (refusal({"$schema": uri, "const": 1}, 2) == "") is takes


# --- what users may not do to the service -------------------------------------------------------


def test_a_definition_that_asks_for_endless_work_is_stopped() -> None:
    doubling = {f"a{n}": {"anyOf": [{"$ref": f"#/definitions/a{n + 1}"}] * 2} for n in range(60)}
    schema = {"$ref": "#/definitions/a0", "definitions": {**doubling, "a60": {"type": "null"}}}

    assert violation(schema, 1) == "(root): The document takes too long to be checked"


@pytest.mark.parametrize("schema", [{"$ref": "#"}, {"allOf": [{"$ref": "#"}]}])
def test_a_schema_that_is_itself_takes_nothing(schema: Any) -> None:
    assert violation(schema, 1) == "(root): The document is nested too deep to be checked"


@pytest.mark.parametrize("document", [b"[" * 900 + b"]" * 900, b"[" * 50_000 + b"]" * 50_000])
def test_a_document_that_is_too_deep_is_refused(document: bytes) -> None:
    assert refusal({"items": {"$ref": "#"}}, document) != ""
    assert refusal({"enum": [1]}, document) != ""


def test_a_regular_expression_takes_time_in_proportion_to_the_text() -> None:
    assert refusal({"pattern": "^(a|a?)+$"}, "a" * 100_000 + "b") != ""


def test_the_number_of_regular_expressions_is_bounded() -> None:
    schema = {"allOf": [{"pattern": "a"}] * MAX_PATTERNS}
    assert refusal(schema, "a") == ""
    schema["allOf"].append({"pattern": "b"})
    with pytest.raises(DefinitionError, match="regular expressions"):
        JsonSchema(json.dumps(schema))


def test_of_many_violations_the_first_are_told() -> None:
    said = refusal({"items": {"type": "null"}}, [1] * 1000)
    assert said.count("Invalid type") == MAX_VIOLATIONS


def test_what_a_document_may_cost_shows_in_the_definition() -> None:
    plain, wide, endless = (
        JsonSchema(json.dumps(schema)).json_work(1000)
        for schema in (ORDER, {"allOf": [ORDER] * 50}, {"items": {"$ref": "#"}})
    )
    assert plain < wide < endless
    assert endless > 1_000_000_000


# --- compared with others -----------------------------------------------------------------------

documents = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0, "", "a", "ab"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=8,
)
types = st.sampled_from(["array", "boolean", "integer", "null", "number", "object", "string"])
small = st.integers(0, 3)


def keywords(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(inner, min_size=1, max_size=3)
    names = st.sampled_from("abc")
    of_names = st.dictionaries(names, inner, max_size=2)
    return st.fixed_dictionaries(
        {},
        optional={
            "type": types | st.lists(types, min_size=1, max_size=2, unique=True),
            "enum": st.lists(documents, min_size=1, max_size=3),
            "const": documents,
            "anyOf": some,
            "oneOf": some,
            "allOf": some,
            "not": inner,
            "if": inner,
            "then": inner,
            "else": inner,
            "properties": of_names,
            "patternProperties": st.dictionaries(st.sampled_from(["a|b", "^c$"]), inner),
            "additionalProperties": inner,
            "propertyNames": inner,
            "required": st.lists(names, unique=True, max_size=2),
            "dependencies": st.dictionaries(
                names, inner | st.lists(names, unique=True), max_size=2
            ),
            "items": inner | some,  # without additionalItems: the judge trips over these
            "contains": inner,
            "minItems": small,
            "uniqueItems": st.booleans(),
            "minLength": small,
            "pattern": st.sampled_from(["a", "^b"]),
            "minimum": st.integers(-2, 2),
            "exclusiveMaximum": st.integers(-2, 2),
            "multipleOf": st.sampled_from([0.5, 1, 2]),
            "minProperties": small,
        },
    )


schemas = st.recursive(st.booleans() | keywords(st.just(True)), keywords, max_leaves=4)


@settings(deadline=None, max_examples=80)
@given(schemas, documents)
def test_what_is_taken_is_what_others_take(schema: Any, document: Any) -> None:
    expected = jsonschema.Draft7Validator(schema).is_valid(document)
    assert (refusal(schema, document) == "") is expected
