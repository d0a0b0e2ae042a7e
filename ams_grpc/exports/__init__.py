"""Exports: messages of a subscription are written to objects of a bucket.

``worker`` takes them from the subscription, ``text`` and ``avro`` make bytes of them, ``buckets`` is where the
bytes go: a folder of this machine (``folders``), or S3 and its like (``clouds``).
"""
