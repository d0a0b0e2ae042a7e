"""docs/compatibility.md says what the service does, and nothing that it does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from scripts.compatibility import told
from scripts.compatibility.fates import (
    OUTPUT,
    STORED,
    WORKS,
    Fate,
    UnknownFateError,
    leaves,
    values,
)
from scripts.compatibility.page import with_what_is_told

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "compatibility.md"


def test_the_page_of_compatibility_is_current() -> None:
    generator = ROOT / "scripts" / "generate_compatibility_doc"
    made = subprocess.run(
        [sys.executable, generator, "--print"], check=False, capture_output=True, text=True
    )

    assert made.returncode == 0, made.stderr
    assert PAGE.read_text(encoding="utf-8") == made.stdout, f"run scripts/{generator.name}"


@pytest.fixture
def tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told for these tests."""
    monkeypatch.setattr(told, "EFFECTIVE", frozenset({"Topic.labels"}))
    monkeypatch.setattr(told, "STORED_ONLY", {"Topic.kms": "nothing is encrypted"})
    monkeypatch.setattr(told, "NOT_SEEN", {"Topic.state": Fate(OUTPUT)})


SEEN = {
    "Topic.labels": Fate(WORKS),
    "Topic.kms.name": Fate(WORKS),
    "Topic.state": Fate(""),
    "Request.topic": Fate(WORKS),
}


@pytest.mark.usefixtures("tell")
def test_what_is_kept_works_or_is_stored_only() -> None:
    assert with_what_is_told(SEEN, ["Topic"]) == {
        "Topic.labels": Fate(WORKS),
        "Topic.kms.name": Fate(STORED, "nothing is encrypted"),
        "Topic.state": Fate(OUTPUT),
        "Request.topic": Fate(WORKS),
    }


@pytest.mark.usefixtures("tell")
@pytest.mark.parametrize(
    "path, fate", [("Topic.new", Fate(WORKS)), ("Topic.new", Fate("")), ("Request.new", Fate(""))]
)
def test_a_field_of_which_nothing_is_known_is_named(path: str, fate: Fate) -> None:
    with pytest.raises(UnknownFateError, match=path):
        with_what_is_told(SEEN | {path: fate}, ["Topic"])


@pytest.mark.usefixtures("tell")
@pytest.mark.parametrize("path", ["Topic.labels", "Topic.kms.name", "Topic.state"])
def test_what_is_told_without_need_is_named(path: str) -> None:
    with pytest.raises(UnknownFateError, match=r"told\.py tells what is seen anyway"):
        with_what_is_told({key: fate for key, fate in SEEN.items() if key != path}, ["Topic"])


def test_the_fields_of_a_message_are_those_within_its_fields_too() -> None:
    paths = {path for path, _ in leaves(pb.Subscription.DESCRIPTOR)}

    assert {"labels", "retry_policy.minimum_backoff", "push_config.oidc_token.audience"} <= paths
    assert "push_config" not in paths


def test_a_value_is_what_is_set_in_each_entry_of_a_list() -> None:
    transforms = [
        pb.MessageTransform(javascript_udf=pb.JavaScriptUDF(code="f")),
        pb.MessageTransform(disabled=True),
    ]
    topic = pb.Topic(labels={"a": "b"}, message_transforms=transforms)

    assert values(topic, "labels") == [{"a": "b"}]
    assert values(topic, "message_transforms.javascript_udf.code") == ["f"]
    assert values(topic, "message_transforms.disabled") == [True]
    assert values(topic, "kms_key_name") == []
    assert values(topic, "schema_settings.schema") == []
