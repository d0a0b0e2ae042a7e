"""What it takes to parse the JSON of a protobuf message, before that is done: see ``shapes``.

Google's parser is written in Python and looks at all fields of a message that it begins, so the
weight of a message is also a measure of time: some 40 ns a byte. So a message may weigh little
beside what its length justifies, however much memory there is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Final, TypeAlias

from ams_grpc.schemas.errors import MessageError
from ams_grpc.schemas.shapes import MAX_WEIGHT, Shape

FREE_WEIGHT: Final = 4 * 1024 * 1024
WEIGHT_PER_BYTE: Final = 16
"""An object in JSON that has a value or two weighs less for each of its characters."""

# The shape of the message type that an Any names; None if there is no such.
Find: TypeAlias = Callable[[object], Shape | None]

_END: Final = object()
_MAP_VALUE: Final = 2  # its field in an entry


def check_json_weight(value: object, size: int, shape: Shape, find: Find) -> None:
    """Raises MessageError if ``value``, of ``size`` bytes in JSON, is too heavy as a ``shape``."""
    most = min(FREE_WEIGHT + WEIGHT_PER_BYTE * size, MAX_WEIGHT)
    weight = shape.weight
    waiting: list[tuple[Iterator[object], Shape]] = [(iter((value,)), shape)]
    while waiting:
        nodes, shape = waiting[-1]
        node = next(nodes, _END)
        if node is _END:
            waiting.pop()
            continue
        weight += _weight_of_names(node, shape)
        _check(weight, most)
        for inside, inner, each in _inside(node, shape, find):
            weight += len(inside) * each
            _check(weight, most)
            if inner is not None:
                waiting.append((iter(inside), inner))


def _check(weight: int, most: int) -> None:
    if weight > most:
        raise MessageError("it has too many messages inside it, or fields, for its length")


def _weight_of_names(node: object, shape: Shape) -> int:
    """Each name in a message is looked for among those before it, one by one."""
    if not isinstance(node, dict) or shape.is_dynamic:
        return 0
    return len(node) ** 2 // 8


def _inside(
    node: object, shape: Shape, find: Find
) -> Iterator[tuple[Collection[object], Shape | None, int]]:
    """The values in a value that are messages, of which shape, and what each weighs.

    No shape: there are no messages in them.
    """
    if shape.is_dynamic:
        if isinstance(node, dict):
            yield node.values(), shape, shape.weight
        elif isinstance(node, list):
            yield node, shape, shape.weight
        return
    if not isinstance(node, dict):
        return
    if shape.is_any:
        named = find(node.get("@type"))
        if named is None:
            return
        # Its fields are beside its type, except for types with a JSON of their own.
        own = named.is_dynamic or named.is_any
        yield [node.get("value") if own else node], named, named.weight
        return
    for name, value in node.items():
        inner = shape.names.get(name)
        if inner is None and name.startswith("["):  # an extension may have one name more behind it
            inner = shape.names.get(f"{name.rpartition('.')[0]}]")
        if inner is None:
            continue
        if inner.is_map_entry and isinstance(value, dict):
            in_entry = inner.fields.get(_MAP_VALUE)
            each = inner.weight + (0 if in_entry is None else in_entry.weight)
            yield value.values(), in_entry, each
        elif isinstance(value, list):
            yield value, inner, inner.weight
        else:
            yield [value], inner, inner.weight
