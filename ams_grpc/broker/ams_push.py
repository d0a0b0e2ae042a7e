"""How AMS pushes the messages of a subscription, as records.

Pub/Sub's push (``policies.PushConfig``) is another one: there each message is a request of its own,
here a cycle takes some of them, and the next one comes when these are through.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeAlias

DEFAULT_PERIOD_MS: Final = 3000


@dataclass(frozen=True, slots=True)
class AmsEndpoint:
    """An HTTP endpoint. It is pushed to once it has shown that it wants that.

    ``verification_hash`` is what it has to answer. ``sealed_authorization``: the header that comes
    with each push, encrypted; empty: none does.
    """

    url: str
    verification_hash: str = field(repr=False)
    verified: bool = False
    sealed_authorization: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class AmsMattermost:
    """A channel of Mattermost, by its webhook: whoever knows that URL may write there."""

    webhook: str = field(repr=False)
    username: str = ""
    channel: str = ""


AmsTarget: TypeAlias = AmsEndpoint | AmsMattermost


@dataclass(frozen=True, slots=True)
class AmsPush:
    """Where messages are pushed to, and when.

    ``max_messages`` is as the caller said; a cycle has at least one. ``period_ms``: milliseconds
    from the end of a cycle to the next one; None: slow start. ``base64_decode``: data are pushed as
    text, not as base64.
    """

    target: AmsTarget
    max_messages: int = 1
    period_ms: int | None = DEFAULT_PERIOD_MS
    base64_decode: bool = False

    @property
    def url(self) -> str:
        """Where requests go."""
        return self.target.url if isinstance(self.target, AmsEndpoint) else self.target.webhook

    @property
    def verified(self) -> bool:
        """True if it is pushed to. AMS: a webhook is its own proof."""
        return not isinstance(self.target, AmsEndpoint) or self.target.verified
