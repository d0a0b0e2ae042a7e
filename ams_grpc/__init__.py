"""A durable messaging service that speaks the Google Pub/Sub API."""
