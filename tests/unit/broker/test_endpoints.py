"""Where the service may push to: only public addresses, unless it is told otherwise."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams_grpc.broker.endpoints import EndpointRules
from ams_grpc.broker.errors import InvalidArgument

STRICT = EndpointRules()

NOT_PUBLIC = [
    *("127.0.0.1", "127.255.0.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1"),
    *("169.254.169.254", "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
    *("224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "198.18.0.1", "192.0.2.1"),
    *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "::8.8.8.8", "64:ff9b::7f00:1"),
    *("64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808", "2002:7f00:1::", "2002:a9fe:a9fe::"),
    *("2001:0:808:808::1", "2001:db8::1"),
]
PUBLIC = [
    *("8.8.8.8", "1.1.1.1", "::ffff:8.8.8.8", "2606:4700:4700::1111", "64:ff9b::808:808"),
    "2002:808:808::1",
]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_is_not_public_is_not_connected_to(address: str) -> None:
    assert not STRICT.permits(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_connected_to(address: str) -> None:
    assert STRICT.permits(address)


@pytest.mark.parametrize(
    "address", ["", "localhost", "2130706433", "0x7f.1", "127.1", "0177.0.0.1", "8.8.8.8:80"]
)
def test_what_is_no_address_is_not_connected_to(address: str) -> None:
    assert not STRICT.permits(address)


@given(st.integers(0, 2**32 - 1))
def test_an_ipv4_address_is_the_same_in_ipv6_clothes(number: int) -> None:
    plain = IPv4Address(number)

    for clothes in ("::ffff:{}", "64:ff9b::{}"):
        assert STRICT.permits(str(plain)) == STRICT.permits(str(IPv6Address(clothes.format(plain))))


def test_loopback_can_be_allowed_and_then_nothing_else_is() -> None:
    rules = EndpointRules(loopback=True)

    assert rules.permits("127.0.0.1")
    assert rules.permits("::1")
    assert not rules.permits("10.0.0.1")
    assert not rules.permits("169.254.169.254")


def test_networks_and_addresses_can_be_allowed() -> None:
    rules = EndpointRules(allowed=["10.2.0.0/16", "192.168.1.7", "fd00::/8"])

    assert rules.permits("10.2.3.4")
    assert rules.permits("::ffff:10.2.3.4")
    assert rules.permits("192.168.1.7")
    assert rules.permits("fd12::1")
    assert not rules.permits("10.3.0.1")
    assert not rules.permits("192.168.1.8")


def test_host_names_can_be_allowed() -> None:
    rules = EndpointRules(allowed=["hooks.internal", "*.svc.local"])

    assert rules.trusts("hooks.internal")
    assert rules.trusts("HOOKS.internal.")
    assert rules.trusts("a.b.svc.local")
    assert not rules.trusts("svc.local")
    assert not rules.trusts("evil-svc.local")
    assert not rules.trusts("x.hooks.internal")


@pytest.mark.parametrize(
    "entry", ["", "10.0.0.0/99", "10.0.0.1/8", "a b", "*.*.x", "http://x", "1"]
)
def test_what_can_be_no_host_cannot_be_allowed(entry: str) -> None:
    with pytest.raises(ValueError, match="neither a network nor a host name"):
        EndpointRules(allowed=[entry])


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://example.com",
        "https://example.com/push?token=a%2Fb&c=d#part",
        "https://EXAMPLE.com:8443/",
        "HTTPS://example.com/",
        "https://receiver/",
        "https://a_b.example.com./",
        "https://bücher.example/",
        "https://8.8.8.8/",
        "https://[2606:4700:4700::1111]:444/x",
    ],
)
def test_an_https_url_of_a_host_is_accepted(endpoint: str) -> None:
    STRICT.check(endpoint)


@pytest.mark.parametrize(
    "endpoint",
    [
        *(
            "x",
            "example.com",
            "/push",
            "//example.com/",
            "https://",
            "https:///x",
            "https:example.com",
        ),
        *("ftp://example.com", "file:///etc/passwd", "unix:///x", "javascript:alert(1)"),
        *("http://example.com", "https://user@example.com", "https://user:pw@example.com"),
        *("https://example.com:0", "https://example.com:99999", "https://example.com:x"),
        *(
            "https://exa mple.com",
            "https://example.com/a b",
            "https://example.com/\n",
            "https://a\tb",
        ),
        *("https://example.com\\@evil.com/", "https://-a.com", "https://a..com", "https://%31.com"),
        *(
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://[fe80::1]/",
        ),
        *("https://2130706433/", "https://0x7f000001/", "https://0177.0.0.1/", "https://127.1/"),
        *("https://1.2.3/", "https://a.0x1/", "https://localhost/", "https://x.LOCALHOST./"),
        *(
            "https://[::1",
            "https://169.254.169.254/computeMetadata/v1/",
            f"https://e.com/{'a' * 2048}",
        ),
    ],
)
def test_any_other_endpoint_is_refused_with_its_text(endpoint: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        STRICT.check(endpoint)

    assert refusal.value.message == (
        f"Invalid push endpoint given (endpoint={endpoint}). Refer to "
        "https://cloud.google.com/pubsub/subscriber#create for more information."
    )
    assert refusal.value.field == "push_config.push_endpoint"


@given(st.text(max_size=60))
def test_nonsense_is_refused_and_never_a_crash(text: str) -> None:
    for endpoint in (text, f"https://{text}"):
        try:
            STRICT.check(endpoint)
        except InvalidArgument:
            continue
        assert endpoint.lower().startswith("https://")


def test_http_and_loopback_can_be_allowed() -> None:
    rules = EndpointRules(http=True, loopback=True)

    for endpoint in ("http://localhost:8080/", "http://127.0.0.1:1/x", "https://[::1]/"):
        rules.check(endpoint)
    with pytest.raises(InvalidArgument):
        rules.check("http://10.0.0.1/")


def test_what_is_allowed_is_accepted_as_an_endpoint() -> None:
    rules = EndpointRules(allowed=["10.0.0.0/8", "localhost"])

    rules.check("https://10.9.8.7/")
    rules.check("https://localhost/")
    with pytest.raises(InvalidArgument):
        rules.check("https://127.0.0.1/")


# --- accounts -----------------------------------------------------------------------------------------


def test_without_a_list_tokens_are_for_any_account() -> None:
    assert STRICT.lends("anybody@example.com")


def test_with_a_list_they_are_for_those_accounts_and_domains() -> None:
    rules = EndpointRules(accounts=["Pusher@a.example", "*@b.example"])

    assert rules.lends("pusher@A.example")
    assert rules.lends("anybody@b.example")
    assert not rules.lends("root@a.example")
    assert not rules.lends("anybody@sub.b.example")
    assert not rules.lends("anybody@evil-b.example")
    assert not rules.lends("b.example")
    assert not rules.lends("")


@pytest.mark.parametrize(
    "entry", ["", "a", "@a.example", "a@", "*", "p*@a.example", "a@*.example", "a@b c"]
)
def test_what_is_no_account_cannot_be_listed(entry: str) -> None:
    with pytest.raises(ValueError, match="neither the address of an account"):
        EndpointRules(accounts=[entry])
