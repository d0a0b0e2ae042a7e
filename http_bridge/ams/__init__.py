"""AMS's REST dialect: its paths, its JSON, its errors, on the services of ams.v1.

What the annotations of the protos cannot say is in their options (``ams/v1/options.proto``).
"""
