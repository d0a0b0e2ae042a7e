"""What an export may be: names of objects, and bounds, with the texts that callers get."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams_grpc.broker import rules
from ams_grpc.broker.catalog import SubscriptionConfig
from ams_grpc.broker.errors import InvalidArgument
from ams_grpc.broker.object_names import check_object_names, object_name
from ams_grpc.broker.policies import MINUTE_US, SECOND_US, PushConfig, StorageExport
from ams_grpc.broker.profiles import EMULATOR, STRICT, Profile

MOMENT_US = 1_700_000_000_000_000  # 2023-11-14T22:13:20 UTC


def check(profile: Profile = STRICT, *, bucket: str = "archive", **export: Any) -> None:
    """Hold an export against the rules, at the longest ack deadline."""
    config = SubscriptionConfig(ack_deadline_s=600, export=StorageExport(bucket, **export))
    rules.check_subscription(config, profile)


def refused(profile: Profile = STRICT, **export: Any) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        check(profile, **export)
    assert caught.value.field in caught.value.message
    return caught.value


# --- names of objects ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pattern, date",
    [
        ("", "2023-11-14T22:13:20+00:00"),
        ("YYYY-MM-DDThh:mm:ss+00:00", "2023-11-14T22:13:20+00:00"),
        ("YYYY-MM-DD/hh_mm_ssZ", "2023-11-14/22_13_20Z"),
        ("YY/MM/DD/hh/mm/ss", "23/11/14/22/13/20"),
        ("ss.mm.hh.DD.MM.YYYY", "20.13.22.14.11.2023"),
        ("YYYYMMDDhhmmss", "20231114221320"),
    ],
)
def test_a_name_is_prefix_date_id_and_suffix(pattern: str, date: str) -> None:
    export = StorageExport("archive", "orders/a-", ".txt", pattern)

    check_object_names(export)

    assert object_name(export, MOMENT_US + 999_999, "c0ffee") == f"orders/a-{date}_c0ffee.txt"


@pytest.mark.parametrize(
    "pattern",
    [
        "YYYY",
        "YYYY-MM-DD",
        "YYYY-YY-MM-DD-hh-mm-ss",
        "YYYY-YYYY-MM-DD-hh-mm-ss",
        "YYYY-MM-DD-hh-mm-mm-ss",
        "yyyy-MM-DD-hh-mm-ss",
        "YYYY-MM-DD-HH-mm-ss",
        "YYYYY-MM-DD-hh-mm-ss",
        "YYYY-MM-DD hh-mm-ss",
        "YYYY-MM-DD-hh-mm-ss+01:00",
        "YYYY-MM-DD-hh-mm-ss at noon",
        "%Y-%m-%d-%H-%M-%S",
        "YYYY-MM-DD-hh-mm-ss\n",
    ],
)
def test_other_formats_of_dates_are_refused(pattern: str) -> None:
    error = refused(filename_datetime_format=pattern)

    assert error.field == "cloud_storage_config.filename_datetime_format"


@given(st.text(alphabet="YMDhmsTZ-_:./+0 x"))
def test_a_format_of_dates_that_is_accepted_leaves_no_letter_of_its_own(pattern: str) -> None:
    export = StorageExport("archive", filename_datetime_format=pattern)
    try:
        check_object_names(export)
    except InvalidArgument:
        return

    assert not set("YMDhms") & set(object_name(export, MOMENT_US, ""))


@pytest.mark.parametrize(
    "names",
    [
        {"filename_suffix": "/"},
        {"filename_suffix": ".txt/"},
        {"filename_suffix": "/.."},
        {"filename_prefix": "/orders"},
        {"filename_prefix": "../orders"},
        {"filename_prefix": "orders/../"},
        {"filename_prefix": "orders//"},
        {"filename_prefix": "./"},
        {"filename_prefix": "a\nb"},
        {"filename_prefix": "a\0b"},
        {"filename_prefix": "a" * 1025},
        {"filename_prefix": "a" * 250},
        {"filename_prefix": "a/" * 510},
    ],
)
def test_names_that_not_every_store_takes_are_refused(names: dict[str, Any]) -> None:
    assert refused(**names).field.startswith("cloud_storage_config.filename_")


def test_prefix_and_suffix_are_free_text_otherwise() -> None:
    check(filename_prefix="orders/Ä {1}…", filename_suffix=" #1.txt")


# --- buckets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bucket", ["abc", "a-b_c.d", "0" * 63, f"{'a' * 63}.{'b' * 63}"])
def test_names_of_buckets(bucket: str) -> None:
    check(bucket=bucket)


@pytest.mark.parametrize(
    "bucket",
    ["", "ab", "gs://abc", "Abc", "-abc", "abc-", ".abc", "a..b", "a/b", "..", "a" * 64, "abc\n"],
)
def test_what_is_no_name_of_a_bucket_is_refused(bucket: str) -> None:
    assert refused(bucket=bucket).field == "cloud_storage_config.bucket"


# --- limits -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "limits",
    [
        {"max_duration_us": MINUTE_US},
        {"max_duration_us": 10 * MINUTE_US},
        {"max_bytes": 1_000},
        {"max_bytes": 10 * 1024**3},
        {"max_messages": 1_000},
        {"max_bytes": 0, "max_messages": 0},
    ],
)
def test_limits_of_an_object(limits: dict[str, Any]) -> None:
    check(**limits)


@pytest.mark.parametrize(
    "limit, value, text",
    [
        ("max_duration", 59 * SECOND_US, "59s in the request, .* between 1m and 10m"),
        ("max_duration", 601 * SECOND_US, "10m1s in the request, .* between 1m and 10m"),
        ("max_duration", -SECOND_US, "-1s in the request"),
        ("max_bytes", 999, "999 in the request, .* between 1000 and 10737418240"),
        ("max_bytes", 10 * 1024**3 + 1, "between 1000 and 10737418240"),
        ("max_bytes", -1, "-1 in the request"),
        ("max_messages", 999, "999 in the request, but the minimum value is 1000"),
        ("max_messages", -1, "too small"),
    ],
)
def test_other_limits_are_refused(limit: str, value: int, text: str) -> None:
    field = f"{limit}_us" if limit == "max_duration" else limit

    changed: dict[str, Any] = {field: value}
    error = refused(**changed)

    assert error.field == f"cloud_storage_config.{limit}"
    with pytest.raises(InvalidArgument, match=text):
        raise error


def test_the_emulator_profile_allows_small_objects() -> None:
    check(EMULATOR, max_duration_us=SECOND_US, max_messages=1)

    refused(EMULATOR, max_duration_us=SECOND_US - 1)


@pytest.mark.parametrize(
    "ack_deadline_s, duration_us", [(60, MINUTE_US), (600, 10 * MINUTE_US), (10, 5 * MINUTE_US)]
)
def test_an_object_is_open_for_the_ack_deadline_or_for_the_default(
    ack_deadline_s: int, duration_us: int
) -> None:
    export = StorageExport("archive", max_duration_us=duration_us)
    config = SubscriptionConfig(ack_deadline_s=ack_deadline_s, export=export)

    rules.check_subscription(config, STRICT)


def test_an_object_cannot_be_open_for_longer_than_the_ack_deadline() -> None:
    export = StorageExport("archive", max_duration_us=MINUTE_US)
    config = SubscriptionConfig(ack_deadline_s=59, export=export)

    with pytest.raises(InvalidArgument, match="1m is longer than ack_deadline_seconds 59"):
        rules.check_subscription(config, STRICT)


# --- what does not go together ------------------------------------------------------------------


@pytest.mark.parametrize(
    "other", [{"exactly_once": True}, {"push": PushConfig("https://example.com/")}]
)
def test_what_does_not_go_with_an_export_is_refused(other: dict[str, Any]) -> None:
    config = SubscriptionConfig(export=StorageExport("archive"), **other)

    with pytest.raises(InvalidArgument):
        rules.check_subscription(config, STRICT)


def test_the_account_of_an_export_has_a_bound() -> None:
    check(service_account_email="é" * 160)

    refusal = refused(service_account_email="é" * 160 + "x")

    assert "has 321 bytes; the maximum is 320" in refusal.message
