"""docs/compatibility.md: asks the service, adds what is told, and writes it down."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from scripts.compatibility import told
from scripts.compatibility.fates import REFUSED, STORED, WORKS, Descriptor, Fate, UnknownFateError
from scripts.compatibility.resources import EXAMPLES, fates_of_resources
from scripts.compatibility.service import SERVICES, service
from scripts.compatibility.tour import fates_of_methods, requests

INTRODUCTION: Final = """\
<!-- Made by scripts/generate_compatibility_doc, which calls the service; not edited by hand. -->

# Compatibility

What the service does with each method and field of `google.pubsub.v1` and `google.iam.v1.IAMPolicy`.

- **works**: as Pub/Sub documents it.
- **stored only**: checked, kept and shown, and nothing follows from it.
- **output only**: the service sets it; what callers send is not read.
- **ignored**: what callers send makes no difference.
- **refused**: the answer is UNIMPLEMENTED, and names the field and the reason.

A field that holds others stands for all of them, unless they differ.
"""


async def page() -> str:
    """The text of the page. Raises UnknownFateError."""
    async with service() as running:
        methods, of_requests = await fates_of_methods(running)
        of_resources = await fates_of_resources(running)
    kinds = [kind.DESCRIPTOR.name for kind in EXAMPLES]
    fates = with_what_is_told({**of_requests, **of_resources}, kinds)
    parts = [INTRODUCTION, "## Methods\n"]
    for each in SERVICES:
        rows = [(method.name, methods[method.name]) for method in each.methods]
        parts += [f"### {each.full_name}\n", table("method", rows)]
    parts.append("## Resources\n")
    for kind in EXAMPLES:
        parts += _fields(kind.DESCRIPTOR, fates)
    parts.append("## Requests\n")
    for request in sorted(requests(), key=lambda request: request.name):
        parts += _fields(request, fates)
    return "\n".join(parts)


def with_what_is_told(seen: Mapping[str, Fate], resources: Iterable[str]) -> dict[str, Fate]:
    """Add what is told; paths that begin with one of ``resources`` are of what is kept.

    Raises UnknownFateError for what is missing there, or is needed no more.
    """
    kept = frozenset(resources)
    fates = dict(seen)
    unknown: list[str] = []
    used: set[str | None] = set()
    for path, fate in seen.items():
        not_seen, stored, effective = (
            _nearest(path, entries) for entries in (told.NOT_SEEN, told.STORED_ONLY, told.EFFECTIVE)
        )
        if fate.word == REFUSED:
            used |= {not_seen, stored, effective}
        elif not fate.word and not_seen:
            used.add(not_seen)
            fates[path] = told.NOT_SEEN[not_seen]
        elif fate.word == WORKS and stored:
            used.add(stored)
            fates[path] = Fate(STORED, told.STORED_ONLY[stored])
        elif fate.word == WORKS and effective:
            used.add(effective)
        elif not fate.word or (fate.word == WORKS and path.partition(".")[0] in kept):
            unknown.append(path)
    if unknown:
        raise UnknownFateError(
            f"nothing is known about {', '.join(unknown)}: give an example, or tell it in told.py"
        )
    needless = (told.NOT_SEEN.keys() | told.STORED_ONLY.keys() | told.EFFECTIVE) - used
    if needless:
        raise UnknownFateError(f"told.py tells what is seen anyway: {', '.join(sorted(needless))}")
    return fates


def _nearest(path: str, entries: Iterable[str]) -> str | None:
    """The entry for a path, or for a field that holds it."""
    while path:
        if path in entries:
            return path
        path = path.rpartition(".")[0]
    return None


def _fields(message: Descriptor, fates: Mapping[str, Fate]) -> Iterator[str]:
    yield f"### {message.name}\n"
    yield table("field", _folded({path: fates[path] for path in fates if _is_in(path, message)}))


def _is_in(path: str, message: Descriptor) -> bool:
    return path.startswith(f"{message.name}.")


def _folded(fates: Mapping[str, Fate], depth: int = 1) -> Iterator[tuple[str, Fate]]:
    """One row for fields that share the field that holds them, and their fate."""
    groups: dict[str, dict[str, Fate]] = {}
    for path, fate in fates.items():
        groups.setdefault(".".join(path.split(".")[: depth + 1]), {})[path] = fate
    for holder, group in groups.items():
        if len(set(group.values())) == 1:
            yield holder.partition(".")[2], next(iter(group.values()))
        else:
            yield from _folded(group, depth + 1)


def table(first: str, rows: Iterable[tuple[str, Fate]]) -> str:
    lines: list[Sequence[str]] = [(first, "", "note"), ("---", "---", "---")]
    lines += [(f"`{name}`", fate.word, fate.why) for name, fate in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
