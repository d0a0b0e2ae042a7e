"""What differs between the profiles: one row each. ``docs/profiles.md`` is made from this table.

``strict`` keeps Google's documented limits. ``emulator`` is for development and CI: it loosens
the bounds that only make tests slow, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ams_grpc.broker.policies import DAY_US, MINUTE_US, SECOND_US


@dataclass(frozen=True, slots=True)
class Profile:
    """One column of the table."""

    name: str
    min_ack_deadline_s: int
    min_expiration_us: int
    push_over_http: bool
    push_to_loopback: bool
    min_export_duration_us: int
    min_export_messages: int


@dataclass(frozen=True, slots=True)
class Difference:
    """One row of the table, in words: the field of ``Profile`` and what it means to users."""

    field: str
    meaning: str


STRICT: Final = Profile(
    "strict",
    min_ack_deadline_s=10,
    min_expiration_us=DAY_US,
    push_over_http=False,
    push_to_loopback=False,
    min_export_duration_us=MINUTE_US,
    min_export_messages=1000,
)
EMULATOR: Final = Profile(
    "emulator",
    min_ack_deadline_s=1,
    min_expiration_us=SECOND_US,
    push_over_http=True,
    push_to_loopback=True,
    min_export_duration_us=SECOND_US,
    min_export_messages=1,
)

PROFILES: Final = {profile.name: profile for profile in (STRICT, EMULATOR)}

DIFFERENCES: Final = (
    Difference("min_ack_deadline_s", "Shortest ack deadline of a subscription, in seconds"),
    Difference(
        "min_expiration_us", "Shortest expiration_policy.ttl of a subscription, in microseconds"
    ),
    Difference("push_over_http", "Push endpoints may be `http://`"),
    Difference(
        "push_to_loopback",
        "Push endpoints may be on this machine, if the service listens there only",
    ),
    Difference(
        "min_export_duration_us",
        "Shortest cloud_storage_config.max_duration of a subscription, in microseconds",
    ),
    Difference(
        "min_export_messages", "Smallest cloud_storage_config.max_messages of a subscription"
    ),
)
