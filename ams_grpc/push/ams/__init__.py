"""AMS's push delivery: cycles of some messages in order, one request each."""
