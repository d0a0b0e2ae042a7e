"""Google's REST dialect of Pub/Sub."""

from __future__ import annotations
