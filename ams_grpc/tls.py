"""TLS: certificates from files, for gRPC and for HTTP."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files: a chain of certificates, and the private key of the first."""

    chain: Path
    key: Path

    def credentials(self) -> grpc.ServerCredentials:
        """For gRPC. Raises OSError; gRPC itself looks at them when it listens."""
        return grpc.ssl_server_credentials([(self.key.read_bytes(), self.chain.read_bytes())])

    def context(self) -> ssl.SSLContext:
        """For HTTP. Raises OSError, which ssl.SSLError is."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        # A pass phrase would be asked for on the terminal.
        context.load_cert_chain(self.chain, self.key, password=_no_pass_phrase)
        return context


def _no_pass_phrase() -> str:
    raise OSError("the private key has a pass phrase; give one that has none")
