"""Certificates for development: an authority of our own, and what it signs.

In their folder are ``ca.pem``, for clients to trust, ``server.pem`` and ``server.key``, and the
authority's own ``ca.key``, so that a server certificate that runs out, or lacks a name, is replaced
without a change for those who trust ``ca.pem``.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ams_grpc.tls import Tls

_AUTHORITY_LIFE: Final = timedelta(days=3650)
_SERVER_LIFE: Final = timedelta(days=365)
_RENEWED_BEFORE: Final = timedelta(days=30)
_CLOCKS_DIFFER: Final = timedelta(hours=1)
_EVERYWHERE: Final = ("localhost", "127.0.0.1", "::1")

_Key = ec.EllipticCurvePrivateKey
_Pair = tuple[x509.Certificate, _Key]


def self_signed(folder: Path, hosts: Iterable[str], now: datetime | None = None) -> Tls:
    """The certificate of a server that is reached as ``hosts``, and as this machine; made if need be.

    Raises OSError, and ValueError for files that are not what was once written there.
    """
    now = now or datetime.now(UTC)
    names = _names((*_EVERYWHERE, socket.gethostname(), *hosts))
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority = _kept(folder, "ca", now)
    if authority is None:
        authority = _store(folder, "ca", _new_authority(now))
    server = _kept(folder, "server", now)
    if server is None or not _is_of(server[0], authority[0], names):
        _store(folder, "server", _new_server(authority, names, now))
    return Tls(folder / "server.pem", folder / "server.key")


def _names(hosts: Iterable[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(hosts):
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            if host.isascii():
                names.append(x509.DNSName(host))
        else:
            if not address.is_unspecified:  # 0.0.0.0 is every address, and none to connect to
                names.append(x509.IPAddress(address))
    return names


def _kept(folder: Path, name: str, now: datetime) -> _Pair | None:
    """What an earlier start has left; None if there is nothing, or it is about to run out."""
    chain, key_file = folder / f"{name}.pem", folder / f"{name}.key"
    if not (chain.exists() and key_file.exists()):
        return None
    certificate = x509.load_pem_x509_certificate(chain.read_bytes())
    key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
    if (
        not isinstance(key, ec.EllipticCurvePrivateKey)
        or key.public_key() != certificate.public_key()
    ):
        return None  # the process ended between writing the one and the other
    if certificate.not_valid_after_utc - now < _RENEWED_BEFORE:
        return None
    return certificate, key


def _is_of(
    certificate: x509.Certificate, authority: x509.Certificate, names: list[x509.GeneralName]
) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except Exception:  # noqa: BLE001 - cryptography raises several kinds; each is a no
        return False
    has = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return all(name in has for name in names)


def _store(folder: Path, name: str, pair: _Pair) -> _Pair:
    certificate, key = pair
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _write(folder / f"{name}.key", private, mode=0o600)
    _write(folder / f"{name}.pem", certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)
    return pair


def _write(file: Path, content: bytes, *, mode: int) -> None:
    """All of it or nothing, and never readable by more than it should be."""
    draft = file.with_suffix(f"{file.suffix}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
        out.write(content)
    draft.replace(file)


def _new_authority(now: datetime) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    # Named after its key: clients that trust an older one, too, tell them apart.
    identity = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    name = _called(f"ams-grpc development CA {identity.digest.hex()[:8]}")
    usage = _usage(signs_certificates=True)
    certificate = (
        _builder(name, name, key, now, _AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(identity, critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate, key


def _new_server(authority: _Pair, names: list[x509.GeneralName], now: datetime) -> _Pair:
    issuer, issuer_key = authority
    key = ec.generate_private_key(ec.SECP256R1())
    issuer_identity = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    life = min(_SERVER_LIFE, issuer.not_valid_after_utc - now)
    certificate = (
        _builder(_called("ams-grpc"), issuer.subject, key, now, life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(issuer_identity, critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    return certificate, key


def _called(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: _Key, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(now + life)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
