"""Who calls, and what they may do: users, tokens, roles, access lists. No SQL, no gRPC, no HTTP."""
