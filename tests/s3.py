"""A stand-in for S3: as much of its HTTP API as writing objects and listing a bucket takes.

Google Cloud Storage understands the same requests.

It checks no signatures. What it knows of multipart uploads is what matters here: parts are not
seen before the upload is completed.
"""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit


class FakeS3:
    """A server for the length of a `with` block; `objects` by bucket and key."""

    def __init__(self) -> None:
        self.buckets: dict[str, dict[str, bytes]] = {}
        self.denied = False
        """Does it refuse whoever asks?"""
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.authorizations: set[str] = set()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, method: str, url: str, body: bytes) -> tuple[int, str, dict[str, str]]:
        """Status, XML and headers of an answer."""
        parts = urlsplit(url)
        query = parse_qs(parts.query, keep_blank_values=True)
        bucket, _, key = unquote(parts.path).removeprefix("/").partition("/")
        if self.denied:
            return 403, "<Error><Code>AccessDenied</Code></Error>", {}
        if bucket not in self.buckets:
            return 404, "<Error><Code>NoSuchBucket</Code></Error>", {}
        tag = {"ETag": '"tag"'}
        match method:
            case "GET" if not key:
                empty = "<IsTruncated>false</IsTruncated><KeyCount>0</KeyCount>"
                return 200, f"<ListBucketResult>{empty}</ListBucketResult>", {}
            case "PUT" if "partNumber" in query:
                self.uploads[query["uploadId"][0]][int(query["partNumber"][0])] = body
                return 200, "", tag
            case "PUT":
                self.buckets[bucket][key] = body
                return 200, "", tag
            case "POST" if "uploads" in query:
                upload = f"upload-{len(self.uploads)}"
                self.uploads[upload] = {}
                return 200, _upload("Initiate", bucket, key, upload), {}
            case "POST":
                stored = self.uploads.pop(query["uploadId"][0])
                self.buckets[bucket][key] = b"".join(stored[number] for number in sorted(stored))
                return 200, _upload("Complete", bucket, key, ""), tag
        return 405, "", {}


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: servers under test are killed in the middle of their requests."""


def _upload(what: str, bucket: str, key: str, upload: str) -> str:
    name = f"{what}MultipartUploadResult"
    return (
        f"<{name}><Bucket>{bucket}</Bucket><Key>{key}</Key>"
        f"<UploadId>{upload}</UploadId><ETag>tag</ETag></{name}>"
    )


def _handler(s3: FakeS3) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Nothing: it would be among the test's own output."""

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            s3.authorizations.add(self.headers.get("Authorization", ""))
            status, text, headers = s3.answer(self.command, self.path, body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815

    return Handler
