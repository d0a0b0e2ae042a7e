"""Packing and unpacking data. What comes of unpacking is bounded: a small message may claim much.

Pub/Sub: Compression. zlib is RFC 1950, Zstandard RFC 8878.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

from ams_grpc.broker.policies import CompressionAlgorithm, CompressionMode
from ams_grpc.broker.schemas import MAX_MESSAGE_BYTES as MAX_DATA_BYTES


def recoder(algorithm: CompressionAlgorithm, mode: CompressionMode) -> Callable[[bytes], bytes]:
    """What a transform does to data. It raises ValueError for what cannot be unpacked."""
    match algorithm, mode:
        case CompressionAlgorithm.ZLIB, CompressionMode.COMPRESS:
            return zlib.compress
        case CompressionAlgorithm.ZLIB, CompressionMode.DECOMPRESS:
            return _unpack_zlib
        case _, CompressionMode.COMPRESS:
            return _pack_zstd
        case _:
            return _unpack_zstd


def _unpack_zlib(data: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        result = stream.decompress(data, MAX_DATA_BYTES + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    _check_size(len(result))
    if not stream.eof or stream.unused_data:
        raise ValueError("it is cut short" if not stream.eof else "something follows it")
    return result


# zstandard is imported by those who use it.


def _pack_zstd(data: bytes) -> bytes:
    import zstandard  # noqa: PLC0415

    return zstandard.ZstdCompressor().compress(data)


def _unpack_zstd(data: bytes) -> bytes:
    import zstandard  # noqa: PLC0415

    try:
        # What the frame says of itself counts for as much memory as it says: so it is looked at first.
        _check_size(zstandard.frame_content_size(data))
        result = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompress(
            data, max_output_size=MAX_DATA_BYTES + 1, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None
    _check_size(len(result))
    return result


def _check_size(size: int) -> None:
    if size > MAX_DATA_BYTES:
        raise ValueError(f"more than {MAX_DATA_BYTES} bytes come of it")
