"""Buckets of object stores: obstore's own in memory, which has multipart uploads as S3 has."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import obstore
import pytest
from obstore.store import GCSStore, MemoryStore, ObjectStore, S3Store

from ams_grpc.exports import clouds
from ams_grpc.exports.buckets import NOT_FOUND, PERMISSION_DENIED, DestinationError
from ams_grpc.exports.clouds import CloudBucket, UploadedObject, open_store
from tests.s3 import FakeS3


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clouds, "PART_BYTES", 10)


async def content(store: MemoryStore) -> dict[str, bytes]:
    listed = await obstore.list(store).collect_async()
    return {
        each["path"]: bytes(await (await obstore.get_async(store, each["path"])).bytes_async())
        for each in listed
    }


@pytest.mark.parametrize("parts", [[], [b"1"], [b"1" * 10], [b"1" * 9, b"2" * 25, b"3"]])
async def test_an_object_is_seen_when_it_is_complete_and_not_before(parts: list[bytes]) -> None:
    store = MemoryStore()
    opened = await CloudBucket(store).create("a/orders.txt")
    for part in parts:
        await opened.write(part)
        assert await content(store) == {}

    await opened.complete()

    assert await content(store) == {"a/orders.txt": b"".join(parts)}


@pytest.mark.parametrize("size", [1, 35])
async def test_an_object_that_is_abandoned_is_never_seen(size: int) -> None:
    store = MemoryStore()
    opened = await CloudBucket(store).create("orders.txt")
    await opened.write(b"1" * size)

    opened.abandon()

    assert await content(store) == {}


async def test_a_store_in_memory_is_found() -> None:
    await CloudBucket(MemoryStore()).check()


def _stored_at(url: str, **options: str) -> Any:
    return open_store(url, options)


def test_urls_lead_to_the_bucket_and_its_prefix() -> None:
    store = _stored_at("s3://archive/deep/er", region="eu-west-1")

    assert isinstance(store, S3Store)
    assert store.prefix == "deep/er"
    assert store.config["bucket"] == "archive"
    assert isinstance(of_google("https://example.com"), GCSStore)


def of_s3(endpoint: str) -> ObjectStore:
    options = {"endpoint": endpoint, "region": "eu-west-1"}
    keys = {"access_key_id": "somebody", "secret_access_key": "hunter2"}
    return open_store("s3://archive/deep", options | keys)


def of_google(endpoint: str) -> ObjectStore:
    key = {"gcs_base_url": endpoint, "disable_oauth": True}
    nobody = {"client_email": "", "private_key": "", "private_key_id": ""}
    return open_store("gs://archive/deep", {"service_account_key": json.dumps(key | nobody)})


@pytest.mark.parametrize("store_at", [of_s3, of_google])
async def test_objects_arrive_in_one_request_or_in_parts(
    store_at: Callable[[str], ObjectStore],
) -> None:
    with FakeS3() as s3:
        bucket = CloudBucket(store_at(s3.endpoint))
        with pytest.raises(DestinationError) as caught:
            await bucket.check()
        assert caught.value.state == NOT_FOUND
        s3.buckets["archive"] = {}
        await bucket.check()

        short, long = await bucket.create("é/short"), await bucket.create("long")
        await short.write(b"123")
        await long.write(b"1234567890" * 3 + b"123")
        await short.complete()
        await long.complete()

        assert s3.buckets["archive"] == {
            "deep/é/short": b"123",
            "deep/long": b"1234567890" * 3 + b"123",
        }


@pytest.mark.parametrize("store_at", [of_s3, of_google])
@pytest.mark.parametrize("size", [1, 35])
async def test_whoever_may_not_write_is_told_so(
    store_at: Callable[[str], ObjectStore], size: int
) -> None:
    with FakeS3() as s3:
        s3.denied = True
        bucket = CloudBucket(store_at(s3.endpoint))
        await bucket.check()  # who may not list may still be allowed to write
        opened = await bucket.create("orders.txt")

        with pytest.raises(DestinationError) as caught:
            await write(opened, b"1" * size)

    assert caught.value.state == PERMISSION_DENIED


async def write(opened: UploadedObject, data: bytes) -> None:
    await opened.write(data)
    await opened.complete()


def test_options_that_there_are_not_are_an_error_that_shows_no_value() -> None:
    with pytest.raises(DestinationError) as caught:
        _stored_at("s3://archive", secret_acess_key="hunter2")

    assert "hunter2" not in str(caught.value)


async def test_a_network_that_is_down_is_an_error_without_secrets() -> None:
    bucket = CloudBucket(
        _stored_at(
            "s3://archive",
            endpoint="http://127.0.0.1:1",
            region="eu-west-1",
            access_key_id="somebody",
            secret_access_key="hunter2",
        )
    )
    opened = await bucket.create("orders.txt")
    await opened.write(b"1")

    with pytest.raises(DestinationError) as caught:
        await opened.complete()

    assert caught.value.state == ""
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_network_that_is_down_breaks_off_a_long_object() -> None:
    bucket = CloudBucket(_stored_at("s3://archive", endpoint="http://127.0.0.1:1"))
    opened = await bucket.create("orders.txt")

    with pytest.raises(DestinationError):
        await opened.write(b"1" * 100)

    opened.abandon()
