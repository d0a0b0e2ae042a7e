"""The services of ams.v1: what AMS has beyond Pub/Sub, and what it has in its own way."""
