r"""The official Python client end to end, with its default settings, as a process of its own.

    PUBSUB_EMULATOR_HOST=HOST:PORT python -m scripts.benchmark.official TOPIC SUBSCRIPTION \
        MESSAGES BYTES TIME_LIMIT_S

TOPIC and SUBSCRIPTION are full resource names of resources that exist. One process subscribes with
a callback that acknowledges, publishes MESSAGES messages, waits for every future, and waits until
as many different messages came. Prints one JSON object: ``seconds`` from the first publish to the
last different message received, ``distinct``, ``received``, and ``published``.
"""

import json
import sys
import threading
import time
from concurrent import futures

from google.cloud import pubsub_v1  # type: ignore[import-untyped]
from google.cloud.pubsub_v1.subscriber.message import Message  # type: ignore[import-untyped]


def measure(
    topic: str, subscription: str, messages: int, byte_size: int, limit_s: float
) -> dict[str, float]:
    """Publish and receive ``messages`` messages and return the fields to print."""
    publisher = pubsub_v1.PublisherClient()
    subscriber = pubsub_v1.SubscriberClient()
    seen: dict[str, float] = {}
    received = 0
    all_came = threading.Event()
    lock = threading.Lock()

    def callback(message: Message) -> None:
        nonlocal received
        with lock:
            received += 1
            seen.setdefault(message.message_id, time.perf_counter())
            if len(seen) >= messages:
                all_came.set()
        message.ack()

    pull = subscriber.subscribe(subscription, callback=callback)
    time.sleep(1)  # the stream opens in the background
    data = b"x" * byte_size
    started_at = time.perf_counter()
    results = [publisher.publish(topic, data) for _ in range(messages)]
    done, _ = futures.wait(results, timeout=limit_s)
    published = sum(result.exception() is None for result in done)
    all_came.wait(max(0.0, limit_s - (time.perf_counter() - started_at)))
    with lock:
        last_at = max(seen.values(), default=started_at)
        figures = {
            "seconds": last_at - started_at,
            "distinct": len(seen),
            "received": received,
            "published": published,
        }
    pull.cancel()
    pull.result(timeout=30)
    return figures


if __name__ == "__main__":
    print(
        json.dumps(
            measure(
                sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
            )
        )
    )
