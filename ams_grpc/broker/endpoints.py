"""Where the service may push to, and in whose name.

Whoever may create a subscription names an address, and the service connects to it: without rules it
could be made to call what only it can reach (its own ports, the private network, a cloud's metadata
service). So by default only public addresses will do. A name is checked by the address that is
connected to, at the moment of connecting; what a name meant earlier does not count.

They also name the account that their tokens speak for. Where receivers go by that, only some will do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

from ams_grpc.broker.errors import InvalidArgument

_Address: TypeAlias = IPv4Address | IPv6Address
_Network: TypeAlias = IPv4Network | IPv6Network

_MAX_URL_BYTES: Final = 2048
_MAX_NAME: Final = 253
_is_label: Final = re.compile(r"(?!-)[\w-]{1,63}(?<!-)").fullmatch
_looks_like_a_number: Final = re.compile(r"\d+|0[xX][0-9a-fA-F]*", re.ASCII).fullmatch

_NAT64: Final = IPv6Network("64:ff9b::/96")
_LOCAL_THOUGH_GLOBAL: Final = (
    IPv4Network("168.63.129.16/32"),  # Azure's own services, seen from inside of it
    IPv4Network("192.0.0.0/24"),  # for protocols; Oracle's own services
    IPv4Network("192.88.99.0/24"),  # relays to IPv6, whoever runs them
    IPv6Network("64:ff9b:1::/48"),  # translated to IPv4 addresses, whichever
    IPv6Network("2001::/32"),  # the same (Teredo)
    IPv6Network("::/96"),  # IPv4 addresses in a form that was given up
)


class EndpointRules:
    """Which push endpoints are accepted, and which addresses are connected to.

    ``http``: https is not required. ``loopback``: this machine will do. ``allowed``: networks
    (``10.0.0.0/8``), addresses and host names (``hooks.internal``, ``*.internal``) that will do
    although they are not public. ``accounts``: whose tokens may be asked for, as addresses or
    ``*@domain``; empty: anybody's. Raises ValueError for what is none of these.
    """

    def __init__(
        self,
        *,
        http: bool = False,
        loopback: bool = False,
        allowed: Iterable[str] = (),
        accounts: Iterable[str] = (),
    ) -> None:
        self._schemes = frozenset({"https", "http"} if http else {"https"})
        self._loopback = loopback
        self._networks: list[_Network] = []
        self._names: set[str] = set()
        self._suffixes: list[str] = []
        for entry in allowed:
            self._allow(entry)
        self._accounts = frozenset(map(_account, accounts))

    def check(self, endpoint: str) -> None:
        """Raises InvalidArgument unless it is a URL that the service may push to.

        Names are not looked up here: they can mean something else the next minute.
        """
        if not self.accepts(endpoint):
            raise InvalidArgument(
                f"Invalid push endpoint given (endpoint={endpoint}). Refer to "
                "https://cloud.google.com/pubsub/subscriber#create for more information.",
                field="push_config.push_endpoint",
            )

    def accepts(self, endpoint: str) -> bool:
        """True if it is a URL that the service may push to, as far as can be seen."""
        if len(endpoint.encode()) > _MAX_URL_BYTES or not endpoint.isprintable():
            return False
        if " " in endpoint or "\\" in endpoint:
            return False
        try:
            url = urlsplit(endpoint)
            return self._is_acceptable_url(url, url.port)
        except ValueError:  # a port or an IPv6 address that is none
            return False

    def permits(self, address: str) -> bool:
        """True if the service may connect to this IP address."""
        # An address of a zone (fe80::1%eth0) is what it is without the zone.
        found = _parse_address(address.partition("%")[0])
        if found is None:
            return False
        meant = _meant(found)
        if any(ip in network for network in self._networks for ip in (found, meant)):
            return True
        return (self._loopback and meant.is_loopback) or _is_public(meant)

    def trusts(self, host: str) -> bool:
        """True if this host is allowed by its name, whatever its address."""
        host = host.lower().rstrip(".")
        return host in self._names or any(map(host.endswith, self._suffixes))

    def lends(self, email: str) -> bool:
        """True if tokens may be signed for this account."""
        _, at, domain = email.lower().rpartition("@")
        return not self._accounts or not self._accounts.isdisjoint(
            (email.lower(), f"*{at}{domain}")
        )

    def _allow(self, entry: str) -> None:
        try:
            self._networks.append(ip_network(entry))
        except ValueError:
            name = entry.lower().rstrip(".")
            if not _is_host_name(name.removeprefix("*.")):
                raise ValueError(f"{entry!r} is neither a network nor a host name") from None
            if name.startswith("*."):
                self._suffixes.append(name[1:])
            else:
                self._names.add(name)

    def _is_acceptable_url(self, url: SplitResult, port: int | None) -> bool:
        # No user and password: the Authorization header is for the service's own token.
        if url.scheme not in self._schemes or not url.hostname or "@" in url.netloc or port == 0:
            return False
        address = _parse_address(url.hostname)
        if address is not None:
            return self.permits(url.hostname)
        host = url.hostname.rstrip(".")
        if not _is_host_name(host):
            return False
        if host == "localhost" or host.endswith(".localhost"):
            return self._loopback or self.trusts(host)
        return True


def _account(entry: str) -> str:
    name, at, domain = entry.lower().rpartition("@")
    if not at or not name or not _is_host_name(domain) or ("*" in name and name != "*"):
        raise ValueError(f"{entry!r} is neither the address of an account nor *@ and a domain")
    return entry.lower()


def _is_host_name(host: str) -> bool:
    """Could be a name; not a number, which resolvers take for an IPv4 address in many a form."""
    labels = host.split(".")
    return (
        0 < len(host) <= _MAX_NAME
        and all(map(_is_label, labels))
        and not _looks_like_a_number(labels[-1])
    )


def _parse_address(text: str) -> _Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _meant(address: _Address) -> _Address:
    """The IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(address, IPv6Address):
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFF_FFFF)
        return address.ipv4_mapped or address.sixtofour or address
    return address


def _is_public(address: _Address) -> bool:
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if isinstance(address, IPv6Address) and address.is_site_local:
        return False
    return not any(address in network for network in _LOCAL_THOUGH_GLOBAL)
