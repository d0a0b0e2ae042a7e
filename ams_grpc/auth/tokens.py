"""Tokens: made, looked up, kept.

A token is looked up by a keyed hash, so that nobody can compute from the database which token a
row belongs to, and a look-up tells nothing by its duration. It is kept encrypted, since AMS shows
it to administrators. Both keys are derived from the server's secret.
"""

from __future__ import annotations

import hmac
import os
import secrets
from base64 import b64decode, b64encode
from typing import Final

from ams_grpc.auth.records import SealedToken

MAX_TOKEN_CHARS: Final = 4096
"""Longer ones are nobody's."""
_NONCE_BYTES: Final = 12


class Vault:
    """Seals and opens tokens."""

    def __init__(self, secret: bytes) -> None:
        self._hash_key = _derive(secret, b"ams: hash of tokens")
        self._seal_key = _derive(secret, b"ams: encryption of tokens")

    def digest(self, token: str) -> bytes:
        """What a token is looked up by: 32 bytes."""
        return hmac.digest(self._hash_key, token.encode(errors="replace"), "sha256")

    def seal(self, token: str, owner: str) -> SealedToken:
        """A token at rest. It can be opened only as that of ``owner``, a uuid."""
        return SealedToken(self.digest(token), self.encrypt(token, owner))

    def open(self, token: SealedToken, owner: str) -> str:
        """The token itself. Raises ValueError when it was sealed with another secret or owner."""
        return self.decrypt(token.sealed, owner)

    def encrypt(self, text: str, use: str) -> bytes:
        """A secret at rest, which can be read only for the same ``use``."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - slow

        nonce = os.urandom(_NONCE_BYTES)
        return nonce + AESGCM(self._seal_key).encrypt(nonce, text.encode(), use.encode())

    def decrypt(self, sealed: bytes, use: str) -> str:
        """The secret itself. Raises ValueError when it was sealed with another secret or use."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - slow
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - slow

        nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return AESGCM(self._seal_key).decrypt(nonce, rest, use.encode()).decode()
        except InvalidTag:
            raise ValueError("the token was sealed with another secret") from None


class SealedTexts:
    """Secrets of one use, as texts that can stand in a record."""

    def __init__(self, vault: Vault, use: str) -> None:
        self._vault = vault
        self._use = use

    def seal(self, text: str) -> str:
        """The text encrypted, in visible ASCII."""
        return b64encode(self._vault.encrypt(text, self._use)).decode()

    def open(self, sealed: str) -> str:
        """The text itself. Raises ValueError for what was not sealed here."""
        return self._vault.decrypt(b64decode(sealed), self._use)


def new_token() -> str:
    """AMS: 64 lower-case hexadecimal characters."""
    return secrets.token_hex(32)


def is_plausible(token: str) -> bool:
    """False for what no user can have: empty, too long, or with other than visible ASCII."""
    return 0 < len(token) <= MAX_TOKEN_CHARS and token.isascii() and token.isprintable()


def _derive(secret: bytes, purpose: bytes) -> bytes:
    return hmac.digest(secret, purpose, "sha256")
