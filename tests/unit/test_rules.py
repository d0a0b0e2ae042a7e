"""Bounds, defaults and labels, with the texts that Pub/Sub answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ams_grpc.broker import rules
from ams_grpc.broker.catalog import SubscriptionConfig, TopicConfig
from ams_grpc.broker.endpoints import EndpointRules
from ams_grpc.broker.errors import InvalidArgument, OutOfRange
from ams_grpc.broker.names import TopicName
from ams_grpc.broker.policies import (
    DAY_US,
    HOUR_US,
    MINUTE_US,
    SECOND_US,
    DeadLetterPolicy,
    JavaScriptTransform,
    MessageStoragePolicy,
    OidcToken,
    PushConfig,
    RetryPolicy,
    StorageExport,
)
from ams_grpc.broker.profiles import EMULATOR, STRICT, Profile


def check_subscription(profile: Profile = STRICT, **settings: Any) -> None:
    rules.check_subscription(SubscriptionConfig(**settings), profile)


def check_topic(**settings: Any) -> None:
    rules.check_topic(TopicConfig(**settings))


def test_a_subscription_with_nothing_but_defaults_is_right() -> None:
    check_subscription(STRICT)
    check_subscription(EMULATOR)


def test_a_topic_with_nothing_but_defaults_is_right() -> None:
    check_topic()


# --- ack deadlines ------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [10, 600])
def test_an_ack_deadline_is_10_to_600_seconds(seconds: int) -> None:
    check_subscription(ack_deadline_s=seconds)


@pytest.mark.parametrize("seconds", [-1, 0, 1, 9, 601])
def test_other_ack_deadlines_are_refused(seconds: int) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_subscription(ack_deadline_s=seconds)

    assert caught.value.message == (
        f"Invalid ack deadline given (ack_deadline={seconds}). "
        "The ack deadline must be between 10 and 600 seconds."
    )
    assert caught.value.field == "ack_deadline_seconds"


def test_the_emulator_profile_allows_ack_deadlines_from_1_second() -> None:
    check_subscription(EMULATOR, ack_deadline_s=1)

    with pytest.raises(InvalidArgument, match="between 1 and 600 seconds"):
        check_subscription(EMULATOR, ack_deadline_s=-1)


@pytest.mark.parametrize("seconds", [0, 1, 9, 600])
def test_an_ack_deadline_is_modified_to_0_to_600_seconds(seconds: int) -> None:
    rules.check_modify_ack_deadline(seconds)


@pytest.mark.parametrize("seconds", [-1, 601])
def test_other_modifications_of_ack_deadlines_are_refused(seconds: int) -> None:
    with pytest.raises(InvalidArgument) as caught:
        rules.check_modify_ack_deadline(seconds)

    assert caught.value.message == (
        f"Invalid ack deadline given (ack_deadline={seconds}). "
        "The ack deadline must be between 0 and 600 seconds."
    )


# --- pulls --------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_messages", [1, 2**31 - 1])
def test_a_pull_asks_for_at_least_one_message(max_messages: int) -> None:
    rules.check_max_messages(max_messages)


@pytest.mark.parametrize("max_messages", [0, -1])
def test_a_pull_for_no_message_is_refused(max_messages: int) -> None:
    with pytest.raises(InvalidArgument) as caught:
        rules.check_max_messages(max_messages)

    assert caught.value.message == (
        "You have passed an invalid argument to the service (argument=max_messages)."
    )


# --- retention ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [600, 600.5, 2_678_400])
def test_retention_is_10_minutes_to_31_days(seconds: float) -> None:
    retention_us = round(seconds * SECOND_US)

    check_topic(message_retention_us=retention_us)
    check_subscription(message_retention_us=retention_us)


@pytest.mark.parametrize(
    "seconds, shown",
    [
        (-1, "-1s"),
        (0, "0s"),
        (599, "9m59s"),
        (599.5, "9m59.5s"),
        (2_678_401, "744h0m1s"),
    ],
)
def test_other_retentions_are_refused(seconds: float, shown: str) -> None:
    retention_us = round(seconds * SECOND_US)
    for check in (check_topic, check_subscription):
        with pytest.raises(InvalidArgument) as caught:
            check(message_retention_us=retention_us)

        assert caught.value.message == (
            "The value for message retention duration is out of bounds. "
            f"You passed {shown} in the request, but the value must be between 10m and 744h."
        )
        assert caught.value.field == "message_retention_duration"


@pytest.mark.parametrize(
    "expiration_ttl_us, retention_us",
    [
        pytest.param(None, 7 * DAY_US, id="never-expires"),
        pytest.param(31 * DAY_US, 7 * DAY_US, id="expires-later"),
        pytest.param(7 * DAY_US, 7 * DAY_US, id="expires-then"),
        pytest.param(DAY_US, DAY_US, id="expires-before"),
        pytest.param(SECOND_US, 10 * MINUTE_US, id="expires-before-the-shortest-retention"),
    ],
)
def test_by_default_retention_is_7_days_or_until_expiration(
    expiration_ttl_us: int | None, retention_us: int
) -> None:
    assert rules.default_retention_us(expiration_ttl_us) == retention_us


# --- expiration ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ttl_us", [DAY_US, 365 * DAY_US, None])
def test_expiration_is_a_day_to_a_year_or_never(ttl_us: int | None) -> None:
    check_subscription(expiration_ttl_us=ttl_us, message_retention_us=HOUR_US)


@pytest.mark.parametrize(
    "ttl_us, shown",
    [(-SECOND_US, "-1s"), (0, "0s"), (HOUR_US, "1h"), (86_399 * SECOND_US, "23h59m59s")],
)
def test_a_shorter_expiration_is_refused(ttl_us: int, shown: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_subscription(expiration_ttl_us=ttl_us)

    assert caught.value.message == (
        "The value for expiration duration is too small. "
        f"You passed {shown} in the request, but the minimum value is 24h."
    )
    assert caught.value.field == "expiration_policy.ttl"


def test_a_longer_expiration_is_refused() -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_subscription(expiration_ttl_us=366 * DAY_US)

    assert caught.value.message == (
        "The value for expiration duration is too large. "
        "You passed 8784h in the request, but the maximum value is 8760h."
    )


def test_a_subscription_does_not_expire_before_its_messages() -> None:
    check_subscription(expiration_ttl_us=2 * DAY_US, message_retention_us=2 * DAY_US)

    with pytest.raises(InvalidArgument) as caught:
        check_subscription(expiration_ttl_us=DAY_US, message_retention_us=2 * DAY_US)

    assert caught.value.message == (
        "You have passed an invalid argument to the service (argument="
        "expiration_policy.ttl 24h is shorter than message_retention_duration 48h)."
    )


@pytest.mark.parametrize("ttl_us", [SECOND_US, MINUTE_US, HOUR_US, DAY_US, None])
def test_the_emulator_profile_allows_expiration_from_1_second(ttl_us: int | None) -> None:
    check_subscription(
        EMULATOR,
        expiration_ttl_us=ttl_us,
        message_retention_us=rules.default_retention_us(ttl_us),
    )


def test_the_emulator_profile_refuses_expiration_below_1_second() -> None:
    with pytest.raises(InvalidArgument, match="but the minimum value is 1s"):
        check_subscription(EMULATOR, expiration_ttl_us=0)


# --- retries ------------------------------------------------------------------------------------


def retry(minimum_s: float, maximum_s: float) -> RetryPolicy:
    return RetryPolicy(round(minimum_s * SECOND_US), round(maximum_s * SECOND_US))


@pytest.mark.parametrize(
    "minimum_s, maximum_s", [(0, 0), (0, 600), (10, 600), (600, 600), (0.5, 0.5)]
)
def test_backoffs_are_0_to_600_seconds(minimum_s: float, maximum_s: float) -> None:
    check_subscription(retry=retry(minimum_s, maximum_s))


@pytest.mark.parametrize(
    "minimum_s, maximum_s, name, shown",
    [
        (-1, 600, "minimum_backoff", "-1s"),
        (601, 600, "minimum_backoff", "601s"),
        (600.5, 600, "minimum_backoff", "600.5s"),
        (10, -1, "maximum_backoff", "-1s"),
        (10, 601, "maximum_backoff", "601s"),
    ],
)
def test_other_backoffs_are_refused(
    minimum_s: float, maximum_s: float, name: str, shown: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_subscription(retry=retry(minimum_s, maximum_s))

    assert caught.value.message == (
        f"The value for {name} is out of bounds. You passed {shown} in the request, "
        "but the value must be between 0s and 600s."
    )
    assert caught.value.field == f"retry_policy.{name}"


@pytest.mark.parametrize("minimum_s, maximum_s", [(10, 5), (20, 10)])
def test_the_maximum_backoff_is_not_below_the_minimum(minimum_s: int, maximum_s: int) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_subscription(retry=retry(minimum_s, maximum_s))

    assert caught.value.message == (
        f"The value for maximum_backoff is too small. You passed {maximum_s}s in the request, "
        f"but the minimum value is {minimum_s}s."
    )
    assert caught.value.field == "retry_policy.maximum_backoff"


# --- dead letters -------------------------------------------------------------------------------


def check_delivery_attempts(attempts: int) -> None:
    check_subscription(dead_letter=DeadLetterPolicy(TopicName("p", "dead"), attempts))


@pytest.mark.parametrize("attempts", [5, 100])
def test_delivery_attempts_are_5_to_100(attempts: int) -> None:
    check_delivery_attempts(attempts)


@pytest.mark.parametrize(
    "attempts, fault, bound",
    [
        (-1, "small", "minimum value is 5"),
        (0, "small", "minimum value is 5"),
        (1, "small", "minimum value is 5"),
        (4, "small", "minimum value is 5"),
        (101, "large", "maximum value is 100"),
    ],
)
def test_other_delivery_attempts_are_out_of_range(attempts: int, fault: str, bound: str) -> None:
    with pytest.raises(OutOfRange) as caught:
        check_delivery_attempts(attempts)

    assert caught.value.message == (
        f"The value for max_delivery_attempts is too {fault}. "
        f"You passed {attempts} in the request, but the {bound}."
    )
    assert caught.value.field == "dead_letter_policy.max_delivery_attempts"


# --- who receives -------------------------------------------------------------------------------

PUSH = PushConfig("https://example.com/push")
EXPORT = StorageExport("bucket")


def test_messages_are_pushed_or_exported() -> None:
    check_subscription(push=PUSH)
    check_subscription(export=EXPORT)

    with pytest.raises(InvalidArgument) as caught:
        check_subscription(push=PUSH, export=EXPORT)

    assert caught.value.message == (
        "You have passed an invalid argument to the service "
        "(argument=push_config and cloud_storage_config cannot both be set)."
    )


@pytest.mark.parametrize("receiver", [{"push": PUSH}, {"export": EXPORT}], ids=["push", "export"])
def test_exactly_once_delivery_is_for_those_who_pull(receiver: dict[str, Any]) -> None:
    check_subscription(exactly_once=True)

    with pytest.raises(InvalidArgument) as caught:
        check_subscription(exactly_once=True, **receiver)

    assert caught.value.field == "enable_exactly_once_delivery"


# --- what is stored and returned ----------------------------------------------------------------


def test_a_kms_key_name_has_the_shape_of_one() -> None:
    check_topic(kms_key_name="projects/p/locations/global/keyRings/r/cryptoKeys/k")


@pytest.mark.parametrize(
    "name",
    [
        "key",
        "projects/p/locations/global/keyRings/r",
        "projects/p/locations/global/keyRings/r/cryptoKeys/",
        "projects/p/locations/global/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1",
        "projects/p/locations/global/keyRings/r/cryptoKeys/k\0",
    ],
)
def test_other_kms_key_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_topic(kms_key_name=name)

    assert caught.value.message == (
        "You have passed an invalid argument to the service (argument=kms_key_name)."
    )


def test_a_storage_policy_names_regions() -> None:
    check_topic(message_storage_policy=MessageStoragePolicy(("europe-west1",)))


@pytest.mark.parametrize("regions", [(), ("",), ("europe-west1", "a\0b")])
def test_a_storage_policy_without_a_region_is_refused(regions: tuple[str, ...]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_topic(message_storage_policy=MessageStoragePolicy(regions))

    assert caught.value.field == "message_storage_policy.allowed_persistence_regions"


# --- labels -------------------------------------------------------------------------------------

LETTERS = r'does not conform to regular expression "[\p{Ll}\p{Lo}][\p{Ll}\p{Lo}\p{N}_-]{0,62}"'
CHARACTERS = r'does not conform to regular expression "[\p{Ll}\p{Lo}\p{N}_-]{0,63}"'


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param({f"k{number}": "v" for number in range(64)}, id="64-labels"),
        pytest.param({"k" * 63: "v" * 63}, id="63-characters"),
        pytest.param({"é": ""}, id="small-letter-empty-value"),
        pytest.param({"名前": "値"}, id="letters-without-case"),
        pytest.param({"a1_-": "1_-"}, id="digits-and-signs"),
        pytest.param({"a²": "½"}, id="numbers"),
    ],
)
def test_labels_within_limits(labels: dict[str, str]) -> None:
    rules.check_labels(labels)


@pytest.mark.parametrize(
    "labels, fault",
    [
        (
            {"Upper": "v"},
            (
                f'Invalid field "labels"; key "Upper" {LETTERS}; first character "U" is not a '
                "non-uppercased letter (Unicode character class Ll or Lo)"
            ),
        ),
        (
            {"1a": "v"},
            (
                f'Invalid field "labels"; key "1a" {LETTERS}; first character "1" is not a '
                "non-uppercased letter (Unicode character class Ll or Lo)"
            ),
        ),
        ({"": "v"}, f'Invalid field "labels"; key "" {LETTERS}'),
        ({"aB": "v"}, f'Invalid field "labels"; key "aB" {LETTERS}'),
        ({"a.b": "v"}, f'Invalid field "labels"; key "a.b" {LETTERS}'),
        ({"a\n": "v"}, f'Invalid field "labels"; key "a\n" {LETTERS}'),
        (
            {"k" * 64: "v"},
            (
                f'Invalid field "labels"; key "{"k" * 64}" exceeds maximum key length 63 '
                "with a length of 64"
            ),
        ),
        (
            {"key": "v" * 64},
            (
                f'Invalid field "labels.key"; value "{"v" * 64}" exceeds maximum value length 63 '
                "with a length of 64"
            ),
        ),
        ({"key": "Value"}, f'Invalid field "labels.key"; value "Value" {CHARACTERS}'),
        ({"key": "a b"}, f'Invalid field "labels.key"; value "a b" {CHARACTERS}'),
        (
            {f"k{number}": "v" for number in range(65)},
            'Invalid field "labels"; 65 labels exceed the maximum of 64',
        ),
    ],
)
def test_other_labels_are_refused(labels: dict[str, str], fault: str) -> None:
    for check in (check_topic, check_subscription):
        with pytest.raises(InvalidArgument) as caught:
            check(labels=labels)

        assert caught.value.message == (
            "You have passed an invalid argument to the service "
            f"(argument=Invalid labels: {fault})."
        )
        assert caught.value.field == "labels"


# --- durations in texts -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0, "0s"),
        (1, "1s"),
        (0.5, "0.5s"),
        (0.000001, "0.000001s"),
        (59, "59s"),
        (60, "1m"),
        (599, "9m59s"),
        (600, "10m"),
        (600.5, "10m0.5s"),
        (3_600, "1h"),
        (3_605, "1h0m5s"),
        (3_660, "1h1m"),
        (86_399, "23h59m59s"),
        (86_400, "24h"),
        (2_678_400, "744h"),
        (-1.5, "-1.5s"),
    ],
)
def test_durations_are_written_as_go_does(seconds: float, text: str) -> None:
    assert rules.duration_text(round(seconds * SECOND_US)) == text


# --- pushing --------------------------------------------------------------------------------------

ENDPOINT = "https://example.com/push"


def push_refusal(push: PushConfig) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        rules.check_push(push, EndpointRules())
    return caught.value


@pytest.mark.parametrize("attributes", [{}, {"x-goog-version": "v1"}, {"other": "x"}])
def test_a_push_config_may_name_a_version(attributes: dict[str, str]) -> None:
    rules.check_push(PushConfig(ENDPOINT, attributes, OidcToken("a@b.c")), EndpointRules())


def test_an_unknown_version_of_pushing_is_refused() -> None:
    refusal = push_refusal(PushConfig(ENDPOINT, {"x-goog-version": "v3"}))

    assert refusal.message == "Invalid push endpoint version given in push config (version=v3)."


AT_THE_LIMITS = PushConfig(
    "https://example.com/" + "é" * 1014,
    {f"{number:0252}étc": "é" * 512 for number in range(100)},
    OidcToken("é" * 160, "é" * 1024),
)


def test_a_push_config_may_be_as_long_as_its_limits() -> None:
    rules.check_push(AT_THE_LIMITS, EndpointRules())


@pytest.mark.parametrize(
    "longer, field, detail",
    [
        (
            {"attributes": {str(number): "" for number in range(101)}},
            "push_config.attributes",
            "The value for push_config.attributes is too large. You passed 101 in the request",
        ),
        ({"attributes": {"é" * 128 + "x": ""}}, "push_config.attributes", "a key has 257 bytes"),
        (
            {"attributes": {"a": "é" * 512 + "x"}},
            "push_config.attributes",
            "a value has 1025 bytes",
        ),
        (
            {"attributes": {"x-goog-version": "v" * 1_000_000}},
            "push_config.attributes",
            "a value has 1000000 bytes; the maximum is 1024",
        ),
        (
            {"oidc_token": OidcToken("é" * 160 + "x")},
            "push_config.oidc_token.service_account_email",
            "push_config.oidc_token.service_account_email has 321 bytes; the maximum is 320",
        ),
        (
            {"oidc_token": OidcToken("a@b.c", "é" * 1024 + "x")},
            "push_config.oidc_token.audience",
            "push_config.oidc_token.audience has 2049 bytes; the maximum is 2048",
        ),
        (
            {"endpoint": AT_THE_LIMITS.endpoint + "x"},
            "push_config.push_endpoint",
            "Invalid push endpoint given",
        ),
    ],
)
def test_a_push_config_has_bounds(longer: dict[str, Any], field: str, detail: str) -> None:
    refusal = push_refusal(replace(AT_THE_LIMITS, **longer))

    assert detail in refusal.message
    assert refusal.field == field


def test_where_accounts_are_listed_no_others_may_be_named() -> None:
    listed = EndpointRules(accounts=["pusher@a.example"])
    rules.check_push(PushConfig(ENDPOINT, oidc_token=OidcToken("pusher@a.example")), listed)
    rules.check_push(PushConfig(ENDPOINT), listed)

    with pytest.raises(
        InvalidArgument, match=r"tokens are not signed for root@a\.example"
    ) as error:
        rules.check_push(PushConfig(ENDPOINT, oidc_token=OidcToken("root@a.example")), listed)
    assert error.value.field == "push_config.oidc_token.service_account_email"


def test_a_token_needs_an_identity() -> None:
    refusal = push_refusal(PushConfig(ENDPOINT, oidc_token=OidcToken("", "audience")))

    assert refusal.message == (
        "You have passed an invalid argument to the service "
        "(argument=PushConfig::oidc_token::service_account_email)."
    )


@pytest.mark.parametrize(
    "config",
    [
        SubscriptionConfig(push=PushConfig(ENDPOINT), export=StorageExport("bucket")),
        SubscriptionConfig(push=PushConfig(ENDPOINT), exactly_once=True),
        SubscriptionConfig(export=StorageExport("bucket"), exactly_once=True),
    ],
)
def test_messages_go_one_way_and_exactly_once_only_to_those_who_pull(
    config: SubscriptionConfig,
) -> None:
    with pytest.raises(InvalidArgument):
        rules.check_subscription(config, STRICT)


@pytest.mark.parametrize(
    "seconds, text",
    [(0, "0s"), (601, "601s"), (0.5, "0.5s"), (0.000001, "0.000001s"), (-1.5, "-1.5s")],
)
def test_some_durations_are_written_in_seconds(seconds: float, text: str) -> None:
    assert rules.seconds_text(round(seconds * SECOND_US)) == text


# --- filters and transforms ---------------------------------------------------------------------


def test_a_filter_that_does_not_parse_is_refused() -> None:
    check_subscription(filter="attributes:name")

    with pytest.raises(InvalidArgument, match="argument=filter: "):
        check_subscription(filter="attributes:name AND")


def function(
    name: str = "f", code: str = "function f() {}", **settings: Any
) -> JavaScriptTransform:
    return JavaScriptTransform(name, code, **settings)


def test_there_may_be_5_enabled_transforms_and_others_that_are_not() -> None:
    enabled = [function(f"f{i}") for i in range(5)]
    disabled = [function(f"g{i}", disabled=True) for i in range(3)]

    check_topic(transforms=(*enabled, *disabled))
    check_subscription(transforms=(*enabled, *disabled))

    for check in (check_topic, check_subscription):
        with pytest.raises(InvalidArgument) as caught:
            check(transforms=(*enabled, *disabled, function("h")))
        assert caught.value.message == (
            "The request exceeds the maximum number of enabled message transforms. Maximum enabled "
            "transforms: 5. Enabled transforms: 6"
        )


@pytest.mark.parametrize("name", ["f", "$", "_", "camelCase9"])
def test_a_function_has_a_name(name: str) -> None:
    check_topic(transforms=(function(name),))


@pytest.mark.parametrize("name", ["", "9f", "a b", "f()", "f\n", "a.b", "é", "f" * 256])
def test_what_is_no_name_of_a_function_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="function_name") as caught:
        check_topic(transforms=(function(name),))

    assert caught.value.field == "message_transforms.javascript_udf.function_name"


def test_functions_of_one_resource_have_different_names() -> None:
    with pytest.raises(InvalidArgument, match="two functions have the name f"):
        check_topic(transforms=(function("f"), function("f", disabled=True)))


def test_code_has_20_kilobytes_at_most_and_is_not_empty() -> None:
    check_topic(transforms=(function(code="é" * 10_240),))

    with pytest.raises(InvalidArgument, match="code has 20481 bytes; the maximum is 20480"):
        check_topic(transforms=(function(code="é" * 10_240 + "x"),))
    with pytest.raises(InvalidArgument, match="code is empty"):
        check_topic(transforms=(function(code=""),))


def test_there_is_an_end_to_transforms_that_are_disabled_too() -> None:
    check_topic(transforms=tuple(function(f"f{i}", disabled=True) for i in range(20)))

    with pytest.raises(InvalidArgument, match="message_transforms is too large"):
        check_topic(transforms=tuple(function(f"f{i}", disabled=True) for i in range(21)))
