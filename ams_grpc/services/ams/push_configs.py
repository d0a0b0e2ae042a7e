"""AMS's push configurations: read from requests, with its checks in its order, and shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from google.protobuf.message import Message

from ams_grpc.auth.tokens import new_token
from ams_grpc.broker.ams_push import (
    DEFAULT_PERIOD_MS,
    AmsEndpoint,
    AmsMattermost,
    AmsPush,
    AmsTarget,
)
from ams_grpc.broker.catalog import SubscriptionConfig
from ams_grpc.broker.errors import InvalidArgument
from ams_grpc.pb.ams.v1 import pubsub_pb2 as pb

HTTP: Final = "http_endpoint"
MATTERMOST: Final = "mattermost"
AUTOGEN: Final = "autogen"
DISABLED: Final = "disabled"
LINEAR: Final = "linear"
SLOWSTART: Final = "slowstart"

_LONGEST: Final = 2048
"""Bytes of any text of a configuration."""


class Sealed(Protocol):
    """Keeps texts encrypted; see ``auth.tokens.SealedTexts``."""

    def seal(self, text: str) -> str: ...

    def open(self, sealed: str) -> str: ...


class PushConfigs:
    """``accepts``: whether the service may push to a URL."""

    def __init__(self, accepts: Callable[[str], bool], sealed: Sealed) -> None:
        self._accepts = accepts
        self._sealed = sealed

    # --- reading -----------------------------------------------------------------------------

    def created(self, given: pb.PushConfig) -> AmsPush:
        """For a new subscription; ``given`` is not empty. Raises InvalidArgument."""
        target = self._target(given, None)
        return _push(given, target, _max_messages(given, None), _period_ms(given.retry_policy))

    def modified(self, given: pb.PushConfig, old: AmsPush | None) -> AmsPush:
        """In place of ``old``, of which it inherits what it does not say. Raises InvalidArgument."""
        period_ms = _period_ms(given.retry_policy)  # AMS: here, this comes first
        return _push(given, self._target(given, old), _max_messages(given, old), period_ms)

    def _target(self, given: pb.PushConfig, old: AmsPush | None) -> AmsTarget:
        _check_sizes(given)
        match _kind(given):
            case "http_endpoint":
                return self._endpoint(given, old)
            case "mattermost" if given.mattermost_url:
                return AmsMattermost(
                    given.mattermost_url, given.mattermost_username, given.mattermost_channel
                )
            case "mattermost":
                raise InvalidArgument("Field mattermostUrl cannot be empty")
            case _:
                raise InvalidArgument(
                    "Push configuration type can only be of 'http_endpoint' or 'mattermost'"
                )

    def _endpoint(self, given: pb.PushConfig, old: AmsPush | None) -> AmsEndpoint:
        """AMS: whoever answers at another endpoint has to show that it wants to be pushed to."""
        url, known = given.push_endpoint, old.target if old is not None else None
        if not self._accepts(url):
            raise InvalidArgument("Push endpoint should be addressed by a valid https url")
        authorization = self._authorization(given.authorization_header.type, old)
        if isinstance(known, AmsEndpoint) and known.url == url:
            return AmsEndpoint(url, known.verification_hash, known.verified, authorization)
        return AmsEndpoint(url, new_token(), sealed_authorization=authorization)

    def _authorization(self, kind: str, old: AmsPush | None) -> str:
        """AMS: asking for it makes a new one; saying nothing leaves it, or that there is none."""
        if kind not in {"", AUTOGEN, DISABLED}:
            raise InvalidArgument(
                "Authorization header type can only be of 'autogen' or 'disabled' type"
            )
        if kind == AUTOGEN or (not kind and old is None):
            return self._sealed.seal(new_token())
        if kind == DISABLED or old is None or not isinstance(old.target, AmsEndpoint):
            return ""
        return old.target.sealed_authorization

    # --- showing -----------------------------------------------------------------------------

    def shown(self, config: SubscriptionConfig) -> pb.PushConfig:
        """AMS: with all its keys, also of a subscription that is pulled from."""
        if config.ams_push is not None:
            return self._shown(config.ams_push)
        shown = pb.PushConfig(
            authorization_header=pb.AuthorizationHeader(), retry_policy=pb.RetryPolicy()
        )
        if config.push is not None:  # Pub/Sub's push, in words of AMS
            shown.type, shown.push_endpoint, shown.max_messages = HTTP, config.push.endpoint, 1
            shown.authorization_header.type = DISABLED
            shown.retry_policy.CopyFrom(_policy_pb(None))
            shown.verified = True
        return shown

    def _shown(self, push: AmsPush) -> pb.PushConfig:
        shown = pb.PushConfig(
            max_messages=push.max_messages,
            authorization_header=pb.AuthorizationHeader(),
            retry_policy=_policy_pb(push.period_ms),
            verified=push.verified,
            base64_decode=push.base64_decode,
        )
        match push.target:
            case AmsEndpoint(url, verification_hash, _, sealed):
                shown.type, shown.push_endpoint = HTTP, url
                shown.verification_hash = verification_hash
                shown.authorization_header.type = AUTOGEN if sealed else DISABLED
                shown.authorization_header.value = self._sealed.open(sealed) if sealed else ""
            case AmsMattermost(webhook, username, channel):
                shown.type, shown.mattermost_url = MATTERMOST, webhook
                shown.mattermost_username, shown.mattermost_channel = username, channel
        return shown


def is_empty(given: Message) -> bool:
    """AMS: a configuration in which nothing is set, or to nothing, means that subscribers pull."""
    return all(
        is_empty(value) if isinstance(value, Message) else not value
        for _, value in given.ListFields()
    )


def _kind(given: pb.PushConfig) -> str:
    """What type it is. AMS's own library leaves it out."""
    if given.type:
        return given.type
    if given.push_endpoint:
        return HTTP
    return MATTERMOST if given.mattermost_url else ""


def _push(
    given: pb.PushConfig, target: AmsTarget, max_messages: int, period_ms: int | None
) -> AmsPush:
    return AmsPush(target, max_messages, period_ms, given.base64_decode)


def _max_messages(given: pb.PushConfig, old: AmsPush | None) -> int:
    """AMS: Mattermost gets one message at a time; for endpoints any number will do."""
    if _kind(given) == MATTERMOST:
        return 1
    return given.max_messages or (1 if old is None else old.max_messages)


def _period_ms(policy: pb.RetryPolicy) -> int | None:
    """Raises InvalidArgument."""
    if policy.type == SLOWSTART:
        return None
    if policy.type not in {"", LINEAR}:
        raise InvalidArgument("Retry policy can only be of 'linear' or 'slowstart' type")
    return policy.period if policy.period > 0 else DEFAULT_PERIOD_MS


def _policy_pb(period_ms: int | None) -> pb.RetryPolicy:
    """With slow start the period is 0: AMS leaves it out, on which AMS's own library fails."""
    if period_ms is None:
        return pb.RetryPolicy(type=SLOWSTART, period=0)
    return pb.RetryPolicy(type=LINEAR, period=period_ms)


def _check_sizes(given: pb.PushConfig) -> None:
    texts = (given.mattermost_url, given.mattermost_username, given.mattermost_channel)
    if any(len(text.encode()) > _LONGEST for text in texts):
        raise InvalidArgument("Invalid Subscription Arguments")
