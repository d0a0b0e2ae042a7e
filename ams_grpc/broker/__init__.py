"""The domain: topics, subscriptions, messages. Knows neither SQL, gRPC nor HTTP."""
