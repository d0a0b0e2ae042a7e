"""Resource names: what is one, and that it survives being parsed and printed."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams_grpc.broker.errors import InvalidArgument
from ams_grpc.broker.names import (
    DELETED_TOPIC,
    ResourceName,
    SchemaName,
    SnapshotName,
    SubscriptionName,
    TopicName,
    parse_project,
)

KINDS = [
    pytest.param(TopicName, "topics", id="topics"),
    pytest.param(SubscriptionName, "subscriptions", id="subscriptions"),
    pytest.param(SnapshotName, "snapshots", id="snapshots"),
    pytest.param(SchemaName, "schemas", id="schemas"),
]

VALID_IDS = ["abc", "Abc", "a12", "a.b_c~d+e%-f", "a%zz", "Googabc", "GOOGabc", "a" * 255]

INVALID_IDS = [
    "",
    "ab",
    "a" * 256,
    "1abc",
    "-abc",
    "_abc",
    "goog",
    "googabc",
    "a b",
    "a/b",
    "aüb",
    "übc",
    "a:b",
    "a@b",
    "abc/",
    "abc\n",
    "abc\0",
    DELETED_TOPIC,
]

resource_ids = st.from_regex(r"[A-Za-z][A-Za-z0-9\-_.~+%]{2,254}", fullmatch=True).filter(
    lambda name: not name.startswith("goog")
)


@pytest.mark.parametrize("name_type, kind", KINDS)
@pytest.mark.parametrize("resource_id", VALID_IDS)
def test_an_id_has_3_to_255_characters_and_starts_with_a_letter(
    name_type: type[ResourceName], kind: str, resource_id: str
) -> None:
    name = name_type.parse(f"projects/p/{kind}/{resource_id}")

    assert (name.project, name.id) == ("p", resource_id)


@pytest.mark.parametrize("name_type, kind", KINDS)
@pytest.mark.parametrize("resource_id", INVALID_IDS)
def test_other_ids_are_refused(name_type: type[ResourceName], kind: str, resource_id: str) -> None:
    with pytest.raises(InvalidArgument):
        name_type.parse(f"projects/p/{kind}/{resource_id}")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "abc",
        "/projects/p/topics/abc",
        "projects/p/topics/abc/",
        "projects/p/topics/abc/def",
        "projects//topics/abc",
        "projects/p/q/topics/abc",
        "Projects/p/topics/abc",
        "projects/p/Topics/abc",
        "projects/p/subscriptions/abc",
        "projects/p/snapshots/abc",
        "projects/p/topics",
    ],
)
def test_a_topic_name_has_four_segments_and_its_own_collection(name: str) -> None:
    with pytest.raises(InvalidArgument):
        TopicName.parse(name)


def test_the_error_shows_the_full_name() -> None:
    with pytest.raises(InvalidArgument) as caught:
        TopicName.parse("projects/p/topics/ab")

    assert caught.value.message == (
        "Invalid resource name given (name=projects/p/topics/ab). Refer to "
        "https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names for more information."
    )


@pytest.mark.parametrize("project", ["p", "my-project", "123456", "example.com:foo", "UPPER"])
def test_any_project_without_a_slash_is_accepted(project: str) -> None:
    assert parse_project(f"projects/{project}") == project
    assert TopicName.parse(f"projects/{project}/topics/abc").project == project


@pytest.mark.parametrize(
    "name", ["", "p", "projects", "projects/", "projects/p/", "projects/p/topics", "/projects/p"]
)
def test_a_project_name_has_two_segments(name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_project(name)

    assert f"(name={name})" in caught.value.message


def test_names_of_different_kinds_are_different() -> None:
    names: set[ResourceName] = {TopicName("p", "abc"), SubscriptionName("p", "abc")}

    assert len(names) == 2


@given(project=st.from_regex(r"[a-z][a-z0-9.:\-]{0,40}", fullmatch=True), resource_id=resource_ids)
def test_a_name_is_the_same_after_printing_and_parsing(project: str, resource_id: str) -> None:
    for name_type in (TopicName, SubscriptionName, SnapshotName):
        name = name_type(project, resource_id)

        assert name_type.parse(str(name)) == name


@given(text=st.text(alphabet=string.printable) | st.text())
def test_whatever_is_parsed_prints_as_it_was_given(text: str) -> None:
    try:
        name = TopicName.parse(f"projects/p/topics/{text}")
    except InvalidArgument:
        return
    assert str(name) == f"projects/p/topics/{text}"


def test_the_name_of_a_schema_may_end_in_a_revision() -> None:
    order = SchemaName("p", "order")

    assert SchemaName.parse_revision("projects/p/schemas/order") == (order, "")
    assert SchemaName.parse_revision("projects/p/schemas/order@c7cfa2a8") == (order, "c7cfa2a8")


@pytest.mark.parametrize("end", ["@", "@a@b", "@a/b", "@a b", "@" + "a" * 65, "/x@a"])
def test_an_illegal_revision_is_shown_with_the_whole_name(end: str) -> None:
    name = f"projects/p/schemas/order{end}"

    with pytest.raises(InvalidArgument) as caught:
        SchemaName.parse_revision(name)

    assert f"(name={name})" in caught.value.message


def test_without_a_revision_the_name_of_a_schema_has_no_at_sign() -> None:
    with pytest.raises(InvalidArgument):
        SchemaName.parse("projects/p/schemas/order@c7cfa2a8")
