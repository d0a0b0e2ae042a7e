"""The formats of texts in JSON Schemas."""

from __future__ import annotations

import pytest

from ams_grpc.schemas.json_formats import FORMATS

TAKEN_AND_REFUSED = {
    "date": ("2024-02-29", "2023-02-29", "2024-2-1", "2024-02-01\n"),
    "time": ("10:11:12|10:11:12.5Z|10:11:12+02:00", "25:00:00", "10:11"),
    "date-time": (
        "2024-03-05T10:11:12Z|2024-03-05T10:11:12.123+01:00",
        "2024-03-05 10:11:12Z",
        "x",
    ),
    "hostname": ("a.example-1.org", "-a.org", "a..b", "a" * 64),
    "email": ("a@b.co|ü.x@ö.org", "a", "a@", "@b", "a b@c", "a@b@c"),
    "ipv4": ("127.0.0.1", "256.0.0.1", "1.2.3", "::1"),
    "ipv6": ("::1", "127.0.0.1", ":::", "fe80::1%eth0"),
    "uri": ("http://a.b/c?d#e|urn:x:y", "a/b", "http://a b", "http://a/%zz", "http://a:b/"),
    "uri-reference": ("a/b|#x|http://a/%20", "a\\b", "a b"),
    "iri": ("http://ö.org/ü", "ö"),
    "uri-template": ("/a/{b}/c{?d}", "/a/{b", "/a/b}"),
    "uuid": ("5a2f1a5e-3a43-4e2e-9a7e-0d0c9d9a5b0f", "5a2f1a5e3a434e2e9a7e0d0c9d9a5b0f"),
    "regex": ("^(a|b)+$", "(", "(?=a)"),
    "json-pointer": ("|/a/0/~01~1b", "a", "/a~2"),
    "relative-json-pointer": ("0|1/a|2#", "/a", "01", "-1"),
}


@pytest.mark.parametrize("name", TAKEN_AND_REFUSED)
def test_formats(name: str) -> None:
    taken, *refused = TAKEN_AND_REFUSED[name]
    options = [taken] if name == "regex" else taken.split("|")
    assert [text for text in options if not FORMATS[name](text)] == []
    assert [text for text in refused if FORMATS[name](text)] == []
