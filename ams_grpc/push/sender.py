"""Sends requests, and says how they ended. The only part that speaks HTTP.

Proxies are not asked, and redirects not followed unless one by one: the address that ``EndpointRules`` permits is
the one that is connected to. It is checked when the socket is made, after the name was resolved.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Container, Mapping
from contextlib import suppress
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from time import monotonic
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from yarl import URL

from ams_grpc.broker.endpoints import EndpointRules
from ams_grpc.push.outcome import Answer, Outcome, outcome_of
from ams_grpc.push.requests import Request
from ams_grpc.push.resolver import Resolver

ACCEPTED: Final = frozenset({102, 200, 201, 202, 204})
"""Pub/Sub: with these statuses a message is acknowledged, with all others it is not."""

_PROCESSING: Final = 102
_FINAL_PROCESSING: Final = 1102  # 102 where the answer ends with it
_NOT_PUBLIC: Final = "is not a public address"
_KEEPALIVE_S: Final = 1.0  # sooner than any server ends an idle connection, and a request with it
_MAX_ANSWER_BYTES: Final = 65_536
_ANSWER_S: Final = 1.0
_LARGE_BYTES: Final = 262_144
_MOST_REDIRECTS: Final = 10
_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
_ERRORS: Final = (aiohttp.ClientError, OSError, ValueError)


class Sender:
    """Two pools of connections: one for endpoints that are allowed by name, one for all others."""

    def __init__(self, rules: EndpointRules, *, ca_file: Path | None, verify_tls: bool) -> None:
        """Raises OSError (ssl.SSLError) for a file without certificates."""
        self._rules = rules
        tls = _tls(ca_file) if verify_tls else False
        self._resolver = Resolver()
        self._checked = _session(tls, self._resolver, self._socket)
        self._trusted = _session(tls, self._resolver, None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._checked.close()
        await self._trusted.close()
        await self._resolver.close()

    async def send(
        self, endpoint: str, request: Request, token: str | None, timeout_s: float
    ) -> Outcome:
        """Push one message. Failures are outcomes, not errors."""
        headers: Mapping[str, str] = request.headers
        if token is not None:
            headers = {**headers, "Authorization": f"Bearer {token}"}
        try:
            answer = await self._ask("POST", _url(endpoint), request.body, headers, timeout_s)
        except _ERRORS as error:
            return _failure(error, timeout_s)
        return outcome_of(answer.status, ACCEPTED)

    async def ask(
        self,
        method: str,
        endpoint: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] = _NO_HEADERS,
        timeout_s: float,
        follow: Container[int] = (),
    ) -> Answer | Outcome:
        """Send a request, and get its answer, or the outcome that there is none.

        Redirects of the statuses ``follow`` are followed to where the rules let the service go, with
        the same method and body; to another host without the Authorization header.
        """
        deadline = monotonic() + timeout_s
        try:
            url = _url(endpoint)
            for _ in range(_MOST_REDIRECTS + 1):
                answer = await self._ask(method, url, body, headers, deadline - monotonic())
                if answer.status not in follow or not answer.location:
                    return answer
                target = url.join(URL(answer.location))
                if not self._rules.accepts(str(target)):
                    return Outcome(False, "refused", "it may not be redirected there")
                if target.origin() != url.origin():
                    headers = {k: v for k, v in headers.items() if k != "Authorization"}
                url = target
        except _ERRORS as error:
            return _failure(error, timeout_s)
        return Outcome(False, "unreachable", "too many redirects")

    async def _ask(
        self,
        method: str,
        url: URL,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout_s: float,
    ) -> Answer:
        """Raises ``_ERRORS``."""
        if timeout_s <= 0:
            raise TimeoutError
        session = self._trusted if self._rules.trusts(url.host or "") else self._checked
        response = await session.request(
            method,
            url,
            # Larger ones in parts, so that they do not hold up the event loop.
            data=body if body is None or len(body) < _LARGE_BYTES else BytesIO(body),
            headers=headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=timeout_s),
        )
        location = response.headers.get("Location", "")
        return Answer(response.status, await _finish(response), location)

    def _socket(self, address_info: Any) -> socket.socket:
        """A socket for an address that aiohttp is about to connect to. Raises OSError."""
        family, kind, protocol, _, address = address_info
        if not self._rules.permits(address[0]):
            raise OSError(f"{address[0]} {_NOT_PUBLIC}")
        return socket.socket(family, kind, protocol)


@lru_cache(maxsize=1024)
def _url(endpoint: str) -> URL:
    """As it was given, unless it has to be made ASCII."""
    return URL(endpoint, encoded=endpoint.isascii())


def _session(
    tls: ssl.SSLContext | bool, resolver: Resolver, socket_factory: Any
) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        limit=0,  # the budget of push requests is the limit
        ssl=tls,
        resolver=resolver,
        keepalive_timeout=_KEEPALIVE_S,
        socket_factory=socket_factory,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        response_class=_Response,
        skip_auto_headers=("Accept-Encoding",),
    )


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context


async def _finish(response: aiohttp.ClientResponse) -> bytes:
    """Read what else is answered, so that the connection can be used again; not for long, though."""
    parts: list[bytes] = []
    with suppress(aiohttp.ClientError, OSError):
        async with asyncio.timeout(_ANSWER_S):
            left = _MAX_ANSWER_BYTES
            while left > 0 and (part := await response.content.read(left)):
                left -= len(part)
                parts.append(part)
    response.release()  # closes the connection if the answer was not read to its end
    return b"".join(parts)


def _failure(error: Exception, timeout_s: float) -> Outcome:
    """In words of our own: texts of libraries may quote what they were given."""
    match error:
        case TimeoutError():
            return Outcome(False, "timeout", f"no answer within {timeout_s:g} s")
        case aiohttp.ClientConnectorCertificateError():
            reason = "the certificate is not valid for this endpoint"
        case aiohttp.ClientSSLError() | ssl.SSLError():
            reason = "TLS failed"
        case aiohttp.ClientConnectorDNSError():
            reason = "the host name cannot be resolved"
        case aiohttp.ClientConnectorError() if _NOT_PUBLIC in str(error.os_error):
            return Outcome(False, "refused", f"it may not be pushed there: {error.os_error}")
        case aiohttp.ClientConnectorError():
            number = error.os_error.errno  # its text may have the address
            reason = f"no connection: {os.strerror(number) if number else 'failed'}"
        case _:
            reason = f"no valid answer ({type(error).__name__})"
    return Outcome(False, "unreachable", reason)


class _Response(aiohttp.ClientResponse):
    """An answer that may end with 102.

    HTTP: 102 says that an answer will follow, and aiohttp waits for that. Pub/Sub: receivers may
    end with it all the same; then it has what no interim answer has, a length or a last connection.

    This goes into parts of aiohttp that are its own: pyproject.toml bounds it to the versions in which
    they are as here, and a test of the sender says if they are not.
    """

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        protocol = connection.protocol
        if protocol is None:
            return await super().start(connection)
        read = protocol.read

        async def read_with_final_102() -> Any:
            message, payload = await read()
            if message.code == _PROCESSING and (
                message.should_close or "Content-Length" in message.headers
            ):
                return _Final102(message), payload
            return message, payload

        _set_read(protocol, read_with_final_102)
        try:
            await super().start(connection)
        finally:
            _set_read(protocol, None)
        if self.status == _FINAL_PROCESSING:
            self.status = _PROCESSING
        return self


class _Final102:
    """Aiohttp's message, with a status that it does not take for an interim one."""

    def __init__(self, message: Any) -> None:
        self.code = _FINAL_PROCESSING
        self.version = message.version
        self.reason = message.reason
        self.headers = message.headers
        self.raw_headers = message.raw_headers


def _set_read(protocol: ResponseHandler, read: Any) -> None:
    """Let this one connection read in another way; None: as ever."""
    if read is None:
        protocol.__dict__.pop("read", None)
    else:
        protocol.__dict__["read"] = read
