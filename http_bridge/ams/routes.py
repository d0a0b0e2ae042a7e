"""Which request is which method of ams.v1.

AMS: routes are tried in order, and the first whose method and path match wins. A variable of the path
is anything but ``/``: that it is no name is for the method's guard to say. The path counts
percent-decoded.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from http_bridge.ams.options import route_options
from http_bridge.routes import Route, routes_of

_PATHS: Final = 4096
_SHORT: Final = 256
"""Longer paths are not remembered: anybody can make them up."""
_VARIABLE: Final = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True, slots=True)
class AmsRoute:
    """A route of AMS. ``options``: what ``options.proto`` says of it."""

    http_method: str
    template: str
    pattern: re.Pattern[str]
    body_field: str
    method: MethodDescriptor
    options: Any
    path: str
    """The method as gRPC calls it."""
    request_class: type[Message]
    reply_class: type[Message]


class AmsMatch(NamedTuple):
    """A route, and what its path's variables are."""

    route: AmsRoute
    variables: Mapping[str, str]


class AmsRouter:
    """Finds the route of a request."""

    def __init__(self, services: Iterable[ServiceDescriptor]) -> None:
        self.routes = [_ams_route(each) for each in routes_of(services)]
        self._remembered = lru_cache(_PATHS)(self._find)

    def find(self, http_method: str, path: str) -> AmsMatch | None:
        """The match of a path as it was sent; None if there is none, or it is not ``cleaned``.

        The same few paths come again and again, so what is found is remembered.
        """
        find = self._remembered if len(path) <= _SHORT else self._find
        return find(http_method, path)

    def _find(self, http_method: str, sent: str) -> AmsMatch | None:
        path = unquote(sent)
        if cleaned(path) != path:
            return None
        for route in self.routes:
            if route.http_method == http_method:
                found = route.pattern.fullmatch(path)
                if found is not None:
                    return AmsMatch(route, found.groupdict())
        return None


def cleaned(path: str) -> str:
    """A percent-decoded path without ``//``, ``/./`` and ``/../``, which AMS redirects to."""
    clean = posixpath.normpath(path).replace("//", "/", 1)
    return f"{clean}/" if path.endswith("/") and clean != "/" else clean


def _ams_route(route: Route) -> AmsRoute:
    return AmsRoute(
        http_method=route.http_method,
        template=route.template,
        pattern=re.compile(
            "".join(
                f"(?P<{part}>[^/]+)" if at % 2 else re.escape(part)
                for at, part in enumerate(_VARIABLE.split(route.template))
            ),
            re.DOTALL,
        ),
        body_field=route.body,
        method=route.method,
        options=route_options(route.method),
        path=route.path,
        request_class=GetMessageClass(route.method.input_type),
        reply_class=GetMessageClass(route.method.output_type),
    )
