"""Rules for the attributes of messages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ams_grpc.schemas.attributes import MAX_RULES, AttributeRules
from ams_grpc.schemas.errors import DefinitionError, MessageError

RULES = {"site": {"required": True, "pattern": "^[A-Z]+$"}, "kind": {"values": ["a", "b"]}}


def rules(given: Any) -> AttributeRules:
    return AttributeRules(json.dumps(given))


@pytest.mark.parametrize("attributes", [{"site": "X"}, {"site": "X", "kind": "b", "more": "!"}])
def test_attributes_that_follow_the_rules(attributes: dict[str, str]) -> None:
    rules(RULES).check(attributes)


@pytest.mark.parametrize(
    "attributes, said",
    [
        ({}, ",site: is required"),
        ({"site": "x"}, ",site: Does not match pattern '^[A-Z]+$'"),
        ({"site": "X", "kind": ""}, ',kind: must be one of the following: "a", "b"'),
        ({"kind": "c"}, '.1)site: is required.2)kind: must be one of the following: "a", "b".'),
    ],
)
def test_attributes_that_do_not(attributes: dict[str, str], said: str) -> None:
    with pytest.raises(MessageError) as error:
        rules(RULES).check(attributes)
    assert str(error.value) == f"attributes are not valid{said}"


@pytest.mark.parametrize(
    "given",
    [
        [],
        {"": {}},
        {"a" * 257: {}},
        {"a": True},
        {"a": {"must": True}},
        {"a": {"required": "yes"}},
        {"a": {"values": []}},
        {"a": {"values": [1]}},
        {"a": {"pattern": 1}},
        {"a": {"pattern": "(a"}},
        {f"a{number}": {} for number in range(MAX_RULES + 1)},
    ],
)
def test_what_are_no_rules(given: Any) -> None:
    with pytest.raises(DefinitionError, match="attributes"):
        rules(given)
