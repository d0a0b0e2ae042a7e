"""Certificates that the service makes for itself are kept as long as they are good."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509

from ams_grpc.self_signed import self_signed

NOW = datetime(2026, 11, 25, tzinfo=UTC)


def certificate(file: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(file.read_bytes())


def names(made: x509.Certificate) -> set[object]:
    given = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {
        *given.get_values_for_type(x509.DNSName),
        *given.get_values_for_type(x509.IPAddress),
    }


def test_it_is_good_for_this_machine_and_the_addresses_that_are_listened_on(tmp_path: Path) -> None:
    tls = self_signed(tmp_path, ["10.1.2.3", "ams.example.org", "0.0.0.0"], NOW)

    server = certificate(tls.chain)
    server.verify_directly_issued_by(certificate(tmp_path / "ca.pem"))
    wanted = {"localhost", "ams.example.org", *map(ip_address, ("127.0.0.1", "::1", "10.1.2.3"))}
    assert wanted <= names(server)
    assert ip_address("0.0.0.0") not in names(server)
    tls.context()  # it is readable, and key and certificate belong together


def test_the_next_start_uses_it_again(tmp_path: Path) -> None:
    self_signed(tmp_path, [], NOW)
    first = {file: file.read_bytes() for file in tmp_path.iterdir()}

    self_signed(tmp_path, [], NOW + timedelta(days=300))

    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == first


@pytest.mark.parametrize("hosts, days", [(["10.9.9.9"], 1), ([], 340)], ids=["a name", "a year"])
def test_another_is_made_by_the_same_authority(tmp_path: Path, hosts: list[str], days: int) -> None:
    self_signed(tmp_path, [], NOW)
    authority, server = certificate(tmp_path / "ca.pem"), certificate(tmp_path / "server.pem")

    later = NOW + timedelta(days=days)
    renewed = certificate(self_signed(tmp_path, hosts, later).chain)

    assert certificate(tmp_path / "ca.pem") == authority
    assert renewed != server
    assert renewed.not_valid_after_utc > later + timedelta(days=300)
    renewed.verify_directly_issued_by(authority)


def test_half_of_a_pair_is_made_again(tmp_path: Path) -> None:
    self_signed(tmp_path, [], NOW)
    (tmp_path / "server.key").unlink()
    self_signed(tmp_path, [], NOW).context()


def test_a_file_that_is_no_certificate_is_an_error(tmp_path: Path) -> None:
    self_signed(tmp_path, [], NOW)
    (tmp_path / "ca.pem").write_text("what is this?")
    with pytest.raises(ValueError, match="PEM"):
        self_signed(tmp_path, [], NOW)
