"""Tokens that say who pushes, and the key with which receivers verify them.

Pub/Sub: OpenID Connect tokens, RS256. The key is made once, by whichever node needs it first, and
rests in the database: all nodes sign with the same one. It is never shown, nor logged.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import orjson
from joserfc import jwt
from joserfc.jwk import RSAKey

from ams_grpc.broker.clock import Clock
from ams_grpc.broker.policies import SECOND_US, PushConfig
from ams_grpc.push.documents import CERTIFICATES

Secrets: TypeAlias = Callable[[str, Callable[[], bytes]], Awaitable[bytes]]
"""The secret of a name; made by the second argument if there is none yet. Raises StorageUnavailable."""

_ALGORITHM: Final = "RS256"
_KEY_BITS: Final = 2048
_KEY_NAME: Final = "push_signing_key"
_LIFETIME_S: Final = 3600
_RENEW_S: Final = 300  # before its end, a token is used no more
_TOKENS_KEPT: Final = 1000


class Tokens:
    """Signs. ``issuer`` is the URL below which receivers find the two documents."""

    def __init__(self, issuer: str, secrets: Secrets, clock: Clock) -> None:
        self._issuer = issuer.rstrip("/")
        self._secrets = secrets
        self._clock = clock
        self._key: asyncio.Future[RSAKey] | None = None
        self._tokens: OrderedDict[tuple[str, str], tuple[str, int]] = OrderedDict()

    async def token(self, push: PushConfig) -> str | None:
        """What goes behind ``Bearer``; None without an identity. Raises StorageUnavailable."""
        identity = push.oidc_token
        if identity is None:
            return None
        now_s = self._clock.now_us() // SECOND_US
        wanted = (identity.service_account_email, identity.audience or push.endpoint)
        token, expires_s = self._tokens.get(wanted, ("", 0))
        if now_s >= expires_s - _RENEW_S:
            token = self._sign(await self._signing_key(), *wanted, now_s)
            self._tokens[wanted] = (token, now_s + _LIFETIME_S)
            if len(self._tokens) > _TOKENS_KEPT:
                self._tokens.popitem(last=False)
        return token

    async def certificates(self) -> bytes:
        """The public key, as a JSON Web Key Set. Raises StorageUnavailable."""
        key = await self._signing_key()
        public = key.as_dict(private=False) | {
            "kid": key.thumbprint(),
            "alg": _ALGORITHM,
            "use": "sig",
        }
        return orjson.dumps({"keys": [public]})

    async def discovery(self) -> bytes:
        """OpenID Connect Discovery: where the keys are."""
        return orjson.dumps(
            {
                "issuer": self._issuer,
                "jwks_uri": f"{self._issuer}{CERTIFICATES}",
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": [_ALGORITHM],
                "claims_supported": [*_claims("", "", "", 0)],
            }
        )

    def _sign(self, key: RSAKey, email: str, audience: str, now_s: int) -> str:
        header = {"alg": _ALGORITHM, "kid": key.thumbprint(), "typ": "JWT"}
        return jwt.encode(header, _claims(self._issuer, email, audience, now_s), key)

    async def _signing_key(self) -> RSAKey:
        """Read once; whoever needs it meanwhile waits for the same reading."""
        if self._key is None:
            self._key = asyncio.ensure_future(self._load())
            self._key.add_done_callback(self._forget_if_failed)
        return await asyncio.shield(self._key)

    async def _load(self) -> RSAKey:
        return RSAKey.import_key(await self._secrets(_KEY_NAME, _make_key))

    def _forget_if_failed(self, key: asyncio.Future[RSAKey]) -> None:
        if key.cancelled() or key.exception() is not None:
            self._key = None


def _make_key() -> bytes:
    return RSAKey.generate_key(_KEY_BITS).as_pem(private=True)


def _claims(issuer: str, email: str, audience: str, now_s: int) -> dict[str, Any]:
    account = _account_number(email)
    return {
        "aud": audience,
        "azp": account,
        "email": email,
        "email_verified": True,
        "exp": now_s + _LIFETIME_S,
        "iat": now_s,
        "iss": issuer,
        "sub": account,
    }


def _account_number(email: str) -> str:
    """Google's accounts have numbers of 21 digits; here they follow from the address."""
    digest = hashlib.sha256(email.encode()).digest()
    return str(10**20 + int.from_bytes(digest, "big") % 10**20)
