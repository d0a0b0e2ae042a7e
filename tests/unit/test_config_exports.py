"""The settings of exports, and how they are shown."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from ams_grpc.cli import main
from ams_grpc.config import Config


def made(**settings: Any) -> Config:
    return Config(**settings)


def test_buckets_are_folders_beside_the_database_by_default() -> None:
    config = made(data=Path("somewhere"))

    assert config.effective_export_root == Path("somewhere/buckets")
    assert config.export_url is None


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"endpoint": "http://127.0.0.1:9000", "secret_access_key": "hunter2"}
    monkeypatch.setenv("AMS_EXPORT_URL", "s3://{bucket}")
    monkeypatch.setenv("AMS_EXPORT_OPTIONS", json.dumps(options))
    monkeypatch.setenv(
        "AMS_EXPORT_BUCKETS", json.dumps({"a.b": {"url": "gs://archive", "options": options}})
    )

    shown = CliRunner().invoke(main, ["config"])

    assert shown.exit_code == 0, shown.output
    assert "hunter2" not in shown.output
    values = tomllib.loads(shown.output)
    assert values["export_url"] == "s3://{bucket}"
    assert values["export_options"].keys() == options.keys()
    assert values["export_buckets"]["a.b"]["url"] == "gs://archive"


def test_secrets_are_not_shown_when_they_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMS_EXPORT_OPTIONS", json.dumps({"secret_access_key": ["hunter2"]}))

    shown = CliRunner().invoke(main, ["config"])

    assert shown.exit_code == 1
    assert "export_options" in shown.output
    assert "hunter2" not in shown.output


@pytest.mark.parametrize(
    "url",
    [
        "s3://archive",  # all buckets in one
        "http://127.0.0.1/{bucket}",
        "file:///{bucket}",
        "s3://",
        "s3://somebody:hunter2@{bucket}",
        "s3://{bucket}?secret=hunter2",
        "{bucket}",
    ],
)
def test_what_is_no_url_of_buckets_is_refused(url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        made(export_url=url)

    assert "hunter2" not in str(caught.value)
