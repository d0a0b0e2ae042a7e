"""Buckets of S3, of Google Cloud Storage, and of whatever speaks like one of them.

An object of less than one part is sent in one request, a longer one in parts, while it is being
written (a multipart upload). So an open object takes the memory of a few parts at most. A process
that dies leaves the parts it has sent; they are never seen, and the bucket's own rules are to
delete them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

import obstore
from obstore.exceptions import (
    BaseError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import GCSStore, ObjectStore, S3Store

from ams_grpc.exports.buckets import NOT_FOUND, PERMISSION_DENIED, DestinationError

PART_BYTES: Final = 5 * 1024 * 1024
"""S3: no part but the last is smaller, and there are 10,000 at most: objects of up to 48 GiB."""

_NO_BUCKET: Final = "status code: 404"

# The worker tries again by itself, with all that it has.
_RETRY: Final = {"max_retries": 3, "retry_timeout": timedelta(seconds=30)}
_TIMEOUTS: Final = {"connect_timeout": "10s", "timeout": "60s"}


class CloudBucket:
    """``buckets.Bucket`` in an object store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def check(self) -> None:
        """Who may write objects need not be allowed to list them; so that shows nothing."""
        try:
            with _seen_as_destination_errors():
                await obstore.list(self._store, chunk_size=1).__anext__()
        except StopAsyncIteration:
            pass
        except DestinationError as error:
            if error.state == NOT_FOUND:
                raise
            if _NO_BUCKET in str(error):  # obstore has no better way to say so of a list
                raise DestinationError(str(error), NOT_FOUND) from None

    async def create(self, name: str) -> UploadedObject:
        return UploadedObject(self._store, name)


class UploadedObject:
    """``buckets.OpenObject`` in an object store."""

    def __init__(self, store: ObjectStore, name: str) -> None:
        self._store = store
        self._name = name
        self._buffer = bytearray()
        # Of a multipart upload: parts on their way to it; None ends them.
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=1)
        self._upload: asyncio.Task[None] | None = None

    async def write(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= PART_BYTES:
            part = bytes(self._buffer[:PART_BYTES])
            del self._buffer[:PART_BYTES]
            await self._send(part)

    async def complete(self) -> None:
        rest = bytes(self._buffer)
        self._buffer.clear()
        if self._upload is None:
            with _seen_as_destination_errors():
                await obstore.put_async(self._store, self._name, rest, use_multipart=False)
            return
        if rest:
            await self._send(rest)
        await self._send(None)
        with _seen_as_destination_errors():
            await self._upload

    def abandon(self) -> None:
        self._buffer.clear()
        if self._upload is not None:
            self._upload.cancel()

    async def _send(self, part: bytes | None) -> None:
        upload = self._upload
        if upload is None:
            upload = self._upload = asyncio.ensure_future(self._put_parts())
            upload.add_done_callback(_look_at)
        sending = asyncio.ensure_future(self._parts.put(part))
        try:
            await asyncio.wait((sending, upload), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sending.cancel()
        if upload.done():  # it has failed; or else that was the last part
            with _seen_as_destination_errors():
                await upload

    async def _put_parts(self) -> None:
        await obstore.put_async(
            self._store,
            self._name,
            self._sent_parts(),
            use_multipart=True,
            chunk_size=PART_BYTES,
            max_concurrency=2,
        )

    async def _sent_parts(self) -> AsyncIterator[bytes]:
        while (part := await self._parts.get()) is not None:
            yield part


def open_store(url: str, options: Mapping[str, str]) -> ObjectStore:
    """The store at ``s3://bucket/prefix`` or ``gs://bucket/prefix``.

    ``options`` are obstore's (``endpoint``, ``region``, ``access_key_id`` ...); the environment's
    (``AWS_ACCESS_KEY_ID``, ``GOOGLE_APPLICATION_CREDENTIALS`` ...) are the default. Raises
    DestinationError for options that there are not.
    """
    client_options: dict[str, Any] = dict(_TIMEOUTS)
    if any("http://" in value for value in options.values()):
        client_options["allow_http"] = True
    settings: dict[str, Any] = {
        "config": dict(options),
        "retry_config": _RETRY,
        "client_options": client_options,
    }
    with _seen_as_destination_errors():
        if url.startswith("gs://"):
            return GCSStore.from_url(url, **settings)
        return S3Store.from_url(url, **settings)


def _look_at(upload: asyncio.Task[None]) -> None:
    """Whoever writes next hears of its end; if nobody does, asyncio is not to complain."""
    if not upload.cancelled():
        upload.exception()


@contextmanager
def _seen_as_destination_errors() -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError, ValueError) as error:
        state = ""
        if isinstance(error, (NotFoundError, FileNotFoundError)):
            state = NOT_FOUND
        elif isinstance(error, (PermissionDeniedError, UnauthenticatedError, PermissionError)):
            state = PERMISSION_DENIED
        raise DestinationError(_first_words(error), state) from None


def _first_words(error: BaseException) -> str:
    """What happened, without the pages of detail, which may show requests and answers."""
    return f"{error}".partition("\n")[0].partition("<")[0].strip()[:300]
