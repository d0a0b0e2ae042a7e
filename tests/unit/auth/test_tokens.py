"""Tokens at rest, and from a token to who calls."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest

from ams_grpc.auth.attempts import BURST, SPARE_PER_SECOND, FailedAttempts
from ams_grpc.auth.authentication import REMEMBERED_S, Authenticator
from ams_grpc.auth.records import Membership, User
from ams_grpc.auth.tokens import MAX_TOKEN_CHARS, Vault, is_plausible, new_token
from ams_grpc.broker.errors import StorageUnavailable, TooManyAttempts, Unauthenticated
from tests.unit.auth.fakes import Clock, KnownAccounts

SECRET = bytes(range(32))


def test_a_token_has_64_hexadecimal_characters() -> None:
    token = new_token()
    assert len(token) == 64
    assert bytes.fromhex(token)
    assert token != new_token()


def test_a_sealed_token_is_opened_with_the_same_secret_and_owner_alone() -> None:
    sealed = Vault(SECRET).seal("a token", "owner")

    assert Vault(SECRET).open(sealed, "owner") == "a token"
    with pytest.raises(ValueError, match="another secret"):
        Vault(SECRET).open(sealed, "somebody else")
    with pytest.raises(ValueError, match="another secret"):
        Vault(b"another").open(sealed, "owner")


def test_a_token_is_looked_up_by_what_nobody_can_compute_without_the_secret() -> None:
    assert Vault(SECRET).digest("a token") == Vault(SECRET).digest("a token")
    assert Vault(SECRET).digest("a token") != Vault(b"another").digest("a token")
    assert Vault(SECRET).digest("a token") != Vault(SECRET).digest("b token")


def test_nothing_secret_is_in_a_representation() -> None:
    token = new_token()
    sealed = Vault(SECRET).seal(token, "owner")
    user = User("u", "pat", sealed)

    for shown in (repr(sealed), repr(user), str(user)):
        assert token not in shown
        assert repr(sealed.digest) not in shown
        assert repr(sealed.sealed) not in shown
    assert token.encode() not in sealed.sealed


@pytest.mark.parametrize(
    "token", ["", "x" * (MAX_TOKEN_CHARS + 1), "tab\t", "nul\0", "größe", "\ud800", "line\n"]
)
def test_some_tokens_are_nobodys_at_first_sight(token: str) -> None:
    assert not is_plausible(token)


# --- who calls ------------------------------------------------------------------------------------


class Door:
    """An authenticator, and one user."""

    def __init__(self, *roles: str) -> None:
        self.roles = roles or ("publisher",)
        self.clock = Clock()
        self.vault = Vault(SECRET)
        self.accounts = KnownAccounts("own")
        self.authenticator = Authenticator(
            self.accounts,  # type: ignore[arg-type] # the part that this needs
            self.vault,
            self.clock,
        )
        self.token = self.add("pat")

    def add(self, name: str, token: str = "") -> str:
        token = token or new_token()
        sealed = self.vault.seal(token, name)
        user = User(name, name, sealed, memberships=(Membership("own", self.roles),))
        self.accounts.by_digest[sealed.digest] = user
        return token

    async def is_known(self, token: str, peer: str = "ipv4:192.0.2.1") -> bool:
        try:
            await self.authenticator.identify(token, peer)
        except Unauthenticated:
            return False
        return True


async def test_a_token_says_who_calls() -> None:
    door = Door()
    pat = await door.authenticator.identify(door.token, "")

    assert pat.name == "pat"
    assert pat.roles("own") == {"publisher"}
    assert pat.roles("other") == set()
    assert not await door.is_known(door.token.upper())
    assert not await door.is_known(door.token[:-1])


async def test_a_caller_is_looked_up_once_in_a_while() -> None:
    door = Door()
    for _ in range(100):
        assert await door.is_known(door.token)
    assert door.accounts.asked == 1

    door.clock.s += REMEMBERED_S
    assert await door.is_known(door.token)
    assert door.accounts.asked == 2


async def test_a_token_that_was_taken_away_is_unknown_when_told_or_soon() -> None:
    door = Door()
    assert await door.is_known(door.token)
    door.accounts.by_digest.clear()
    door.authenticator.forget()
    assert not await door.is_known(door.token)

    zoe = door.add("zoe")
    assert await door.is_known(zoe)
    door.accounts.by_digest.clear()
    door.clock.s += REMEMBERED_S
    assert not await door.is_known(zoe)


async def test_a_look_up_under_way_while_a_token_is_taken_away_is_not_remembered() -> None:
    door = Door()

    def taken_away() -> None:
        door.accounts.by_digest.clear()
        door.authenticator.forget()

    door.accounts.meanwhile = taken_away
    assert await door.is_known(door.token)  # a moment too early

    assert not await door.is_known(door.token)


async def test_when_the_database_is_away_nobody_new_gets_in_and_none_is_called_unknown() -> None:
    door = Door()
    door.accounts.is_away = True
    with pytest.raises(StorageUnavailable):
        await door.authenticator.identify(door.token, "")


# --- guessing -------------------------------------------------------------------------------------


async def guess(door: Door, count: int, *, peers: int = 1) -> None:
    """Tokens of nobody, until the database is left in peace."""
    for number in range(count):
        with suppress(TooManyAttempts):
            assert not await door.is_known(new_token(), f"ipv4:192.0.2.{1 + number % peers}")


async def test_who_fails_too_often_has_to_wait_and_others_need_not() -> None:
    door = Door()
    late = door.add("zoe")
    await guess(door, 500)
    asked = door.accounts.asked
    assert asked == BURST + SPARE_PER_SECOND
    for token in (new_token(), late, "", "x" * 100_000):
        with pytest.raises(TooManyAttempts):
            await door.authenticator.identify(token, "ipv4:192.0.2.1")
    assert door.accounts.asked == asked  # the database is left in peace

    assert await door.is_known(late, "ipv4:192.0.2.2")


async def test_who_calls_for_the_first_time_gets_in_among_those_who_guess() -> None:
    door = Door()
    await guess(door, 500)
    door.clock.s += 2 / SPARE_PER_SECOND
    assert await door.is_known(door.token)


async def test_what_is_no_token_takes_nothing_from_those_who_call_for_the_first_time() -> None:
    door = Door()
    for _ in range(500):
        with suppress(TooManyAttempts):
            assert not await door.is_known("x" * 100_000)
    assert await door.is_known(door.token)


async def test_guesses_from_many_peers_share_what_is_to_spare() -> None:
    door = Door()
    await guess(door, 1000, peers=2)
    assert door.accounts.asked == 2 * BURST + SPARE_PER_SECOND
    door.clock.s += 3600
    await guess(door, 1000)
    assert door.accounts.asked == 3 * BURST + 2 * SPARE_PER_SECOND


@pytest.mark.parametrize("changes", [0, 1, 2])
async def test_a_token_that_was_good_is_looked_up_however_many_fail(changes: int) -> None:
    door = Door()
    assert await door.is_known(door.token)
    for _ in range(changes):
        await guess(door, 500)
        door.authenticator.forget()
        assert await door.is_known(door.token)
    await guess(door, 500)
    door.clock.s += REMEMBERED_S
    await guess(door, 500)
    assert await door.is_known(door.token)

    door.accounts.by_digest.clear()
    door.authenticator.forget()
    assert not await door.is_known(door.token)
    with pytest.raises(TooManyAttempts):  # it is one of many now
        await door.authenticator.identify(door.token, "ipv4:192.0.2.1")


async def test_a_user_who_was_good_does_not_keep_rights_that_were_taken_away() -> None:
    door = Door()
    before = await door.authenticator.identify(door.token, "")
    [digest] = door.accounts.by_digest
    door.accounts.by_digest[digest] = replace(door.accounts.by_digest[digest], memberships=())
    assert await door.authenticator.identify(door.token, "") == before
    door.authenticator.forget()
    assert (await door.authenticator.identify(door.token, "")).roles("own") == set()


def test_peers_are_forgotten_in_time() -> None:
    attempts = FailedAttempts(Clock(), burst=1, spare_per_second=0, max_peers=3)
    for number in range(4):
        attempts.failed(f"peer {number}")

    attempts.check("peer 0")
    with pytest.raises(TooManyAttempts):
        attempts.check("peer 3")
