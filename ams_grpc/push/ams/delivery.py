"""The requests of AMS's push: those that deliver, and the one that asks whether it is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Final, Protocol
from urllib.parse import urlsplit, urlunsplit

from ams_grpc.broker.ams_push import AmsEndpoint, AmsMattermost, AmsPush
from ams_grpc.broker.endpoints import EndpointRules
from ams_grpc.broker.names import SubscriptionName
from ams_grpc.push.ams.bodies import DataText, http_body, mattermost_body, mattermost_error
from ams_grpc.push.outcome import Answer, Outcome, outcome_of

TIMEOUT_S: Final = 30
"""AMS: how long an endpoint has for its answer."""

_HASH_PATH: Final = "/ams_verification_hash"
_HEADERS: Final = {"User-Agent": "argo-messaging", "Content-Type": "application/json"}
_ACCEPTED: Final = frozenset({102, 200, 201, 204})
_ACCEPTED_BY_MATTERMOST: Final = frozenset({200})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_REDIRECTS_OF_A_POST: Final = frozenset({307, 308})
"""The others would turn it into a GET, without the messages."""
_NOT_PUBLIC: Final = "its address is not public"
_LONGEST_ERROR: Final = 1000
_VERIFIED_AT_ONCE: Final = 32


class Sender(Protocol):
    """The HTTP client; see ``push.sender``."""

    async def ask(
        self,
        method: str,
        endpoint: str,
        *,
        body: bytes | None = ...,
        headers: Mapping[str, str] = ...,
        timeout_s: float,
        follow: Container[int] = ...,
    ) -> Answer | Outcome: ...


class AmsDelivery:
    """Speaks with endpoints. ``source`` gives HOST:PORT that they see as the sender.

    ``sender`` makes the HTTP client when it is needed first; ``unseal`` opens what is encrypted.
    """

    def __init__(
        self,
        sender: Callable[[], Sender],
        rules: EndpointRules,
        *,
        source: Callable[[], str],
        unseal: Callable[[str], str],
        data_text: DataText,
    ) -> None:
        self._sender = sender
        self._rules = rules
        self._source = source
        self._unseal = unseal
        self._data_text = data_text
        self._verifying = asyncio.Semaphore(_VERIFIED_AT_ONCE)

    async def push(
        self, name: SubscriptionName, push: AmsPush, messages: Sequence[bytes]
    ) -> Outcome:
        """One request with all of the messages. Failures are outcomes, not errors."""
        if not self._rules.accepts(push.url):
            return Outcome(False, "refused", "it may not be pushed there", _NOT_PUBLIC)
        if isinstance(push.target, AmsMattermost):
            body = mattermost_body(push, push.target, messages[0], self._data_text)
            return await self._post(push.url, body, {}, _ACCEPTED_BY_MATTERMOST, mattermost_error)
        body = http_body(push, name, self._source(), messages, self._data_text)
        sealed = push.target.sealed_authorization
        header = {"Authorization": self._unseal(sealed)} if sealed else {}
        return await self._post(push.url, body, header, _ACCEPTED, _text)

    async def verify(self, endpoint: AmsEndpoint) -> str:
        """Ask an endpoint for its hash: why it is not verified, or empty if it is.

        AMS: the answer is 200, and the hash to the letter.
        """
        scheme, netloc, *_ = urlsplit(endpoint.url)
        url = urlunsplit((scheme, netloc, _HASH_PATH, "", ""))
        if not self._rules.accepts(url):
            return _NOT_PUBLIC
        async with self._verifying:
            answer = await self._sender().ask("GET", url, timeout_s=TIMEOUT_S, follow=_REDIRECTS)
        if not isinstance(answer, Answer):
            return _reason(answer)
        if answer.status != 200:
            return "Wrong response status code"
        if answer.body != endpoint.verification_hash.encode():
            return "Wrong verification hash"
        return ""

    async def _post(
        self,
        url: str,
        body: bytes,
        headers: dict[str, str],
        accepted: frozenset[int],
        error_of: Callable[[bytes], str],
    ) -> Outcome:
        answer = await self._sender().ask(
            "POST",
            url,
            body=body,
            headers=_HEADERS | headers,
            timeout_s=TIMEOUT_S,
            follow=_REDIRECTS_OF_A_POST,
        )
        if not isinstance(answer, Answer):
            return Outcome(False, answer.kind, answer.reason, _reason(answer))
        outcome = outcome_of(answer.status, accepted)
        if outcome.accepted:
            return outcome
        kind = outcome.kind
        return Outcome(False, kind, outcome.reason, error_of(answer.body)[:_LONGEST_ERROR])


def _text(body: bytes) -> str:
    return body.decode(errors="replace")


def _reason(outcome: Outcome) -> str:
    """For the owner of the subscription, who need not know what a name means in here."""
    return _NOT_PUBLIC if outcome.kind == "refused" else outcome.reason
