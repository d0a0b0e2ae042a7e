"""Push delivery: one HTTP request for each message of a push subscription."""
