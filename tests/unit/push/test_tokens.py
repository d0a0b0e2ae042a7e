"""Tokens that say who pushes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from joserfc import jwt
from joserfc.errors import BadSignatureError, InvalidKeyIdError
from joserfc.jwk import KeySet, RSAKey

from ams_grpc.broker.errors import StorageUnavailable
from ams_grpc.broker.policies import OidcToken, PushConfig
from ams_grpc.push.tokens import Tokens
from tests.unit.broker.fakes import ManualClock

ISSUER = "https://pubsub.example.com"
URL = "https://example.com/push?x=1"
EMAIL = "pusher@project.iam.gserviceaccount.com"


class Vault:
    """Secrets in memory."""

    def __init__(self) -> None:
        self.secrets: dict[str, bytes] = {}
        self.failing = False

    async def __call__(self, name: str, make: Callable[[], bytes]) -> bytes:
        if self.failing:
            raise StorageUnavailable("The database does not answer.")
        if name not in self.secrets:
            self.secrets[name] = make()
        return self.secrets[name]


@pytest.fixture
def vault() -> Vault:
    return Vault()


@pytest.fixture
def tokens(vault: Vault, clock: ManualClock) -> Tokens:
    return Tokens(ISSUER, vault, clock)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def push(audience: str = "", email: str = EMAIL) -> PushConfig:
    return PushConfig(URL, oidc_token=OidcToken(email, audience))


async def verified(tokens: Tokens, token: str | None) -> Any:
    assert token is not None
    keys = KeySet.import_key_set(json.loads(await tokens.certificates()))
    return jwt.decode(token, keys, algorithms=["RS256"])


async def test_without_an_identity_there_is_no_token(tokens: Tokens) -> None:
    assert await tokens.token(PushConfig(URL)) is None


async def test_a_token_says_who_pushes_to_whom(tokens: Tokens, clock: ManualClock) -> None:
    token = await verified(tokens, await tokens.token(push("my-audience")))

    now_s = clock.now_us() // 1_000_000
    number = token.claims["sub"]
    assert number.isdecimal()
    assert len(number) == 21
    assert token.claims == {
        "aud": "my-audience",
        "azp": number,
        "email": EMAIL,
        "email_verified": True,
        "exp": now_s + 3600,
        "iat": now_s,
        "iss": ISSUER,
        "sub": number,
    }
    [key] = json.loads(await tokens.certificates())["keys"]
    assert token.header == {"alg": "RS256", "kid": key["kid"], "typ": "JWT"}


async def test_without_an_audience_it_is_for_the_endpoint(tokens: Tokens) -> None:
    token = await verified(tokens, await tokens.token(push()))

    assert token.claims["aud"] == URL


async def test_a_token_is_used_again_until_it_is_nearly_over(
    tokens: Tokens, clock: ManualClock
) -> None:
    first = await tokens.token(push())

    clock.advance(3299)
    assert await tokens.token(push()) == first
    clock.advance(1)
    assert await tokens.token(push()) != first


async def test_each_identity_and_audience_has_its_own_token(tokens: Tokens) -> None:
    made = {await tokens.token(push(a, e)) for a in ("a", "b") for e in ("x@y.z", EMAIL)}

    assert len(made) == 4


async def test_all_nodes_sign_with_one_key(vault: Vault, clock: ManualClock) -> None:
    here, there = Tokens(ISSUER, vault, clock), Tokens(ISSUER, vault, clock)

    assert (await verified(there, await here.token(push()))).claims["email"] == EMAIL
    assert await here.certificates() == await there.certificates()


async def test_a_token_of_another_key_is_found_out(tokens: Tokens, clock: ManualClock) -> None:
    stranger = Tokens(ISSUER, Vault(), clock)
    own_kid = json.loads(await tokens.certificates())["keys"][0]["kid"]
    key = RSAKey.generate_key(2048)
    forged = jwt.encode({"alg": "RS256", "kid": own_kid}, {"email": EMAIL}, key)

    with pytest.raises(BadSignatureError):
        await verified(tokens, forged)
    with pytest.raises(InvalidKeyIdError):
        await verified(tokens, await stranger.token(push()))


async def test_what_is_published_of_the_key_is_its_public_half(
    tokens: Tokens, vault: Vault
) -> None:
    [key] = json.loads(await tokens.certificates())["keys"]

    assert key.keys() == {"kty", "n", "e", "kid", "alg", "use"}
    assert b"PRIVATE KEY" in next(iter(vault.secrets.values()))


async def test_the_discovery_document_leads_to_the_keys(vault: Vault, clock: ManualClock) -> None:
    document = json.loads(await Tokens(f"{ISSUER}/", vault, clock).discovery())

    assert document["issuer"] == ISSUER
    assert document["jwks_uri"] == f"{ISSUER}/oauth2/v3/certs"
    assert document["id_token_signing_alg_values_supported"] == ["RS256"]


async def test_a_key_that_could_not_be_read_is_read_later(tokens: Tokens, vault: Vault) -> None:
    vault.failing = True
    with pytest.raises(StorageUnavailable):
        await tokens.token(push())

    vault.failing = False

    assert (await verified(tokens, await tokens.token(push()))).claims["email"] == EMAIL
