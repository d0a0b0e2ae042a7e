"""Fault tests use our own stubs (`ams_grpc.pb`), never Google's client: one process, one of them."""

from __future__ import annotations

import os

# Before gRPC is loaded: its handlers for fork() crash the programs that tests start, now and then.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"
