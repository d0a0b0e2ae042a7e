"""Which HTTP request is which method: read from the ``google.api.http`` annotations.

A template such as ``/v1/{topic=projects/*/topics/*}:publish`` binds parts of the path to fields of
the request. ``*`` is one segment, ``**`` any number. Segments are percent-decoded after matching. A
custom verb follows the last colon: ids have none, so without a verb the last segment has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from google.api import annotations_pb2, http_pb2  # type: ignore[import-untyped]
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

_VERBS: Final = ("get", "put", "post", "delete", "patch")
_VARIABLE: Final = re.compile(r"\{([a-z_.]+)(?:=([^}]*))?\}")


@dataclass(frozen=True, slots=True)
class Route:
    """One way to call a method over HTTP.

    ``body`` names the field that the request's body is; ``*``: it is the whole message; empty:
    there is none.
    """

    http_method: str
    template: str
    body: str
    method: MethodDescriptor

    @property
    def path(self) -> str:
        """The method as gRPC calls it."""
        return f"/{self.method.containing_service.full_name}/{self.method.name}"

    @property
    def reply_class(self) -> type[Message]:
        """The class of its replies."""
        return GetMessageClass(self.method.output_type)


class Match(NamedTuple):
    """A route, and the fields that the path sets: by dotted path, their values."""

    route: Route
    fields: dict[str, str]


class Router:
    """Finds the route of a request."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = list(routes)
        self._by_verb: dict[str, list[tuple[re.Pattern[str], list[str], Route]]] = {}
        for route in self.routes:
            pattern, fields = _compile(route.template)
            self._by_verb.setdefault(route.http_method, []).append((pattern, fields, route))

    def find(self, http_method: str, raw_path: str) -> Match | None:
        """The route of a request whose path is still percent-encoded; None if there is none."""
        for pattern, fields, route in self._by_verb.get(http_method, ()):
            match = pattern.fullmatch(raw_path)
            if match is not None:
                values = map(unquote, match.groups())
                return Match(route, dict(zip(fields, values, strict=True)))
        return None


def routes_of(services: Iterable[ServiceDescriptor]) -> Iterator[Route]:
    """The routes of all unary methods that have any."""
    for service in services:
        for method in service.methods:
            if method.client_streaming or method.server_streaming:
                continue
            rule = method.GetOptions().Extensions[annotations_pb2.http]
            yield from _routes(method, rule)
            for additional in rule.additional_bindings:
                yield from _routes(method, additional)


def _routes(method: MethodDescriptor, rule: http_pb2.HttpRule) -> Iterator[Route]:
    kind: Any = rule.WhichOneof("pattern")
    if kind in _VERBS:
        yield Route(kind.upper(), getattr(rule, kind), rule.body, method)


def _compile(template: str) -> tuple[re.Pattern[str], list[str]]:
    """A pattern with one group for each variable, and the variables' field paths."""
    path, verb = _split_verb(template)
    fields: list[str] = []
    pattern = ""
    at = 0
    for variable in _VARIABLE.finditer(path):
        pattern += _literal(path[at : variable.start()])
        fields.append(variable[1])
        pattern += f"({_segments(variable[2] or '*', is_last=variable.end() == len(path))})"
        at = variable.end()
    pattern += _literal(path[at:])
    return re.compile(pattern + (re.escape(f":{verb}") if verb else "")), fields


def _split_verb(template: str) -> tuple[str, str]:
    path, colon, verb = template.rpartition(":")
    return (path, verb) if colon and "}" not in verb and "/" not in verb else (template, "")


def _literal(text: str) -> str:
    return "/".join(map(_segment, text.split("/")))


def _segments(template: str, *, is_last: bool) -> str:
    *before, last = template.split("/")
    patterns = [*map(_segment, before), "[^/:]+" if is_last and last == "*" else _segment(last)]
    return "/".join(patterns)


def _segment(text: str) -> str:
    return {"*": "[^/]+", "**": ".+"}.get(text) or re.escape(text)
