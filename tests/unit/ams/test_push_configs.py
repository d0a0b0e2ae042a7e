"""AMS's push configurations: what is refused and with which words, what is inherited, what is shown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict

from ams_grpc.auth.tokens import SealedTexts, Vault
from ams_grpc.broker.ams_push import AmsEndpoint, AmsMattermost, AmsPush
from ams_grpc.broker.catalog import SubscriptionConfig
from ams_grpc.broker.endpoints import EndpointRules
from ams_grpc.broker.errors import InvalidArgument
from ams_grpc.broker.policies import PushConfig
from ams_grpc.pb.ams.v1 import pubsub_pb2 as pb
from ams_grpc.services.ams.push_configs import PushConfigs, is_empty
from http_bridge.ams.writing import reply_json

URL = "https://recv.example.org:9443/receive_here"
HTTP = {"type": "http_endpoint", "pushEndpoint": URL}
WEBHOOK = "https://chat.example.org/hooks/abc"
MATTERMOST = {"type": "mattermost", "mattermostUrl": WEBHOOK}

NO_ENDPOINT = "Push endpoint should be addressed by a valid https url"
NO_POLICY = "Retry policy can only be of 'linear' or 'slowstart' type"
NO_HEADER = "Authorization header type can only be of 'autogen' or 'disabled' type"
NO_TYPE = "Push configuration type can only be of 'http_endpoint' or 'mattermost'"
NO_WEBHOOK = "Field mattermostUrl cannot be empty"
BAD_POLICY = {"retryPolicy": {"type": "exp"}}
BAD_HEADER = {"authorizationHeader": {"type": "basic"}}


@pytest.fixture(scope="module")
def sealed() -> SealedTexts:
    return SealedTexts(Vault(b"secret"), "a test")


@pytest.fixture(scope="module")
def configs(sealed: SealedTexts) -> PushConfigs:
    return PushConfigs(EndpointRules().accepts, sealed)


def given(**fields: Any) -> pb.PushConfig:
    return ParseDict(fields, pb.PushConfig())


def shown(configs: PushConfigs, push: AmsPush | None, **config: Any) -> dict[str, Any]:
    return reply_json(configs.shown(SubscriptionConfig(ams_push=push, **config)))


def endpoint(push: AmsPush) -> AmsEndpoint:
    assert isinstance(push.target, AmsEndpoint)
    return push.target


def verified(push: AmsPush) -> AmsPush:
    return replace(push, target=replace(endpoint(push), verified=True))


# --- new ones ---------------------------------------------------------------------------------------


def test_the_least_that_a_push_subscription_can_say(configs: PushConfigs) -> None:
    push = configs.created(given(**HTTP))

    answer = shown(configs, push)
    assert len(answer["verificationHash"]) == 64
    assert len(answer["authorizationHeader"].pop("value")) == 64
    assert answer == {
        "type": "http_endpoint",
        "pushEndpoint": URL,
        "maxMessages": 1,
        "authorizationHeader": {"type": "autogen"},
        "retryPolicy": {"type": "linear", "period": 3000},
        "verificationHash": answer["verificationHash"],
        "verified": False,
        "mattermostUrl": "",
        "mattermostUsername": "",
        "mattermostChannel": "",
        "base64Decode": False,
    }


def test_all_that_one_can_say(configs: PushConfigs) -> None:
    push = configs.created(
        given(
            **HTTP,
            maxMessages=-7,
            authorizationHeader={"type": "disabled", "value": "mine"},
            retryPolicy={"type": "slowstart", "period": 5},
            verificationHash="mine",
            verified=True,
            mattermostUrl=WEBHOOK,
            mattermostChannel="alerts",
            base64Decode=True,
        )
    )

    answer = shown(configs, push)
    assert answer["maxMessages"] == -7
    assert answer["authorizationHeader"] == {"type": "disabled"}
    assert answer["retryPolicy"] == {"type": "slowstart", "period": 0}
    assert (answer["verified"], answer["base64Decode"]) == (False, True)
    assert answer["verificationHash"] != "mine"
    assert answer["mattermostUrl"] == answer["mattermostChannel"] == ""


def test_mattermost(configs: PushConfigs) -> None:
    names = {"mattermostUsername": "ams", "mattermostChannel": "alerts"}
    push = configs.created(
        given(**MATTERMOST, **names, pushEndpoint=URL, maxMessages=5, base64Decode=True)
    )

    assert shown(configs, push) == {
        "type": "mattermost",
        "pushEndpoint": "",
        "maxMessages": 1,
        "authorizationHeader": {},
        "retryPolicy": {"type": "linear", "period": 3000},
        "verificationHash": "",
        "verified": True,
        "mattermostUrl": WEBHOOK,
        **names,
        "base64Decode": True,
    }


@pytest.mark.parametrize("period, meant", [(0, 3000), (-1, 3000), (1, 1), (10**15, 10**15)])
def test_periods(configs: PushConfigs, period: int, meant: int) -> None:
    push = configs.created(given(**HTTP, retryPolicy={"period": period}))

    assert push.period_ms == meant


def test_a_type_that_is_left_out_follows_from_what_is_there(configs: PushConfigs) -> None:
    """AMS's own library leaves it out."""
    endpoint(configs.created(given(pushEndpoint=URL)))
    assert configs.created(given(mattermostUrl=WEBHOOK)).target == AmsMattermost(WEBHOOK)


@pytest.mark.parametrize(
    "wrong, text",
    [
        *(
            ({"type": "http_endpoint", "pushEndpoint": url}, NO_ENDPOINT)
            for url in (
                *("", "www.x.org", "http://x.org/r", "https:www.x.org", "https://", "https:///r"),
                *("ftp://x.org", "https://10.0.0.1/", "https://localhost/r", "https://a b.org"),
            )
        ),
        ({"type": "smtp"}, NO_TYPE),
        ({"type": "HTTP_ENDPOINT", "pushEndpoint": URL}, NO_TYPE),
        ({"maxMessages": 1}, NO_TYPE),
        ({"type": "mattermost"}, NO_WEBHOOK),
        ({"type": "mattermost", "pushEndpoint": URL}, NO_WEBHOOK),
        (HTTP | BAD_HEADER, NO_HEADER),
        (HTTP | BAD_POLICY, NO_POLICY),
        (MATTERMOST | {"mattermostUrl": "x" * 3000}, "Invalid Subscription Arguments"),
        # The order:
        ({"type": "http_endpoint", "pushEndpoint": ""} | BAD_HEADER | BAD_POLICY, NO_ENDPOINT),
        (HTTP | BAD_HEADER | BAD_POLICY, NO_HEADER),
        ({"type": "smtp"} | BAD_POLICY, NO_TYPE),
        ({"type": "mattermost"} | BAD_POLICY, NO_WEBHOOK),
    ],
)
def test_what_a_new_one_is_refused_for(
    configs: PushConfigs, wrong: dict[str, Any], text: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        configs.created(given(**wrong))
    assert refused.value.message == text


def test_https_is_https_in_any_letters(configs: PushConfigs) -> None:
    assert configs.created(given(**HTTP | {"pushEndpoint": "HTTPS://x.org/r"})).url


# --- changed ones -----------------------------------------------------------------------------------


def test_the_same_endpoint_stays_verified_and_another_one_does_not(configs: PushConfigs) -> None:
    old = verified(configs.created(given(**HTTP, maxMessages=3, base64Decode=True)))

    same = configs.modified(given(**HTTP, maxMessages=5), old)
    other = configs.modified(given(**HTTP | {"pushEndpoint": f"{URL}2"}), old)

    assert (same.target, same.max_messages) == (old.target, 5)
    assert same.base64_decode is False  # it replaces what was there
    assert not other.verified
    assert endpoint(other).verification_hash != endpoint(old).verification_hash
    assert other.max_messages == 3


AUTOGEN, DISABLED = {"type": "autogen"}, {"type": "disabled"}
UNSAID: dict[str, str] = {}


@pytest.mark.parametrize(
    "before, now, kept",
    [
        (None, UNSAID, False),
        (None, DISABLED, None),
        (AUTOGEN, UNSAID, True),
        (AUTOGEN, AUTOGEN, False),
        (AUTOGEN, DISABLED, None),
        (DISABLED, UNSAID, None),
        (DISABLED, AUTOGEN, False),
        ("mattermost", UNSAID, None),
        ("mattermost", AUTOGEN, False),
    ],
)
def test_authorization_is_kept_made_anew_or_dropped(
    configs: PushConfigs, sealed: SealedTexts, before: Any, now: dict[str, str], kept: bool | None
) -> None:
    """``kept`` False: another value; None: there is none."""
    old: AmsPush | None = None
    if before == "mattermost":
        old = configs.created(given(**MATTERMOST))
    elif before is not None:
        old = configs.created(given(**HTTP, authorizationHeader=before))

    new = endpoint(configs.modified(given(**HTTP, authorizationHeader=now), old))

    if kept is None:
        assert new.sealed_authorization == ""
        return
    value = sealed.open(new.sealed_authorization)
    assert len(value) == 64
    if old is not None and isinstance(old.target, AmsEndpoint) and before == AUTOGEN:
        assert (value == sealed.open(old.target.sealed_authorization)) is kept


def test_mattermost_has_no_header_also_after_a_change(configs: PushConfigs) -> None:
    old = configs.created(given(**HTTP, maxMessages=9))

    new = configs.modified(given(**MATTERMOST, base64Decode=True), old)

    answer = shown(configs, new)
    assert answer["authorizationHeader"] == {}
    assert (answer["maxMessages"], answer["base64Decode"], answer["verified"]) == (1, True, True)


@pytest.mark.parametrize(
    "wrong, text",
    [
        ({"type": "http_endpoint", "pushEndpoint": ""} | BAD_POLICY, NO_POLICY),
        ({"type": "smtp"} | BAD_POLICY, NO_POLICY),
        ({"type": "http_endpoint", "pushEndpoint": ""} | BAD_HEADER, NO_ENDPOINT),
        (HTTP | BAD_HEADER, NO_HEADER),
        ({"type": "smtp"}, NO_TYPE),
        ({"type": "mattermost"}, NO_WEBHOOK),
    ],
)
def test_in_a_change_the_retry_policy_is_looked_at_first(
    configs: PushConfigs, wrong: dict[str, Any], text: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        configs.modified(given(**wrong), None)
    assert refused.value.message == text


# --- none -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields, empty",
    [
        ({}, True),
        ({"authorizationHeader": {}, "retryPolicy": {"period": 0, "type": ""}}, True),
        ({"maxMessages": 0, "verified": False, "type": ""}, True),
        ({"retryPolicy": {"type": "linear"}}, False),
        ({"retryPolicy": {"period": 1}}, False),
        ({"base64Decode": True}, False),
    ],
)
def test_one_in_which_nothing_is_set_is_none(fields: dict[str, Any], empty: bool) -> None:
    assert is_empty(given(**fields)) is empty


def test_a_subscription_that_is_pulled_from_shows_all_keys(configs: PushConfigs) -> None:
    assert shown(configs, None) == {
        "type": "",
        "pushEndpoint": "",
        "maxMessages": 0,
        "authorizationHeader": {},
        "retryPolicy": {},
        "verificationHash": "",
        "verified": False,
        "mattermostUrl": "",
        "mattermostUsername": "",
        "mattermostChannel": "",
        "base64Decode": False,
    }


def test_one_that_pubsub_pushes_to_is_shown_as_far_as_ams_has_words(configs: PushConfigs) -> None:
    answer = MessageToDict(configs.shown(SubscriptionConfig(push=PushConfig(URL))))

    assert answer == {
        "type": "http_endpoint",
        "pushEndpoint": URL,
        "maxMessages": "1",
        "authorizationHeader": {"type": "disabled"},
        "retryPolicy": {"type": "slowstart", "period": "0"},
        "verified": True,
    }


def test_secrets_are_neither_stored_nor_printed_in_clear(configs: PushConfigs) -> None:
    push = configs.created(given(**HTTP))
    value = configs.shown(SubscriptionConfig(ams_push=push)).authorization_header.value

    assert value not in endpoint(push).sealed_authorization
    config = SubscriptionConfig(ams_push=push)
    assert endpoint(push).sealed_authorization not in repr(config)
    assert endpoint(push).verification_hash not in repr(config)
    assert WEBHOOK not in repr(configs.created(given(**MATTERMOST)))
