"""What one request may cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Of every request to a REST API."""

    max_bytes: int = 20 * 1024 * 1024
    """Of its body. The default has room for a publish of 10 MB in base64, and JSON around it."""

    timeout_s: float = 60.0
    """For its body to arrive, and again for the call."""
