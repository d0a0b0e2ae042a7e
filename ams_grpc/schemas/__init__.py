"""Schema languages: Avro, Protocol Buffers and JSON Schema. Parse, check a message, compare revisions.

Definitions and messages come from users, so each of them is bounded in size, depth and work, and
none of them is code. Nothing here knows storage, gRPC, or the broker.
"""
