"""AMS's requests, to a receiver on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from google.protobuf.timestamp_pb2 import Timestamp

from ams_grpc.broker.ams_push import AmsEndpoint, AmsMattermost, AmsPush
from ams_grpc.broker.endpoints import EndpointRules
from ams_grpc.broker.names import SubscriptionName
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2 as pb
from ams_grpc.push.ams.delivery import AmsDelivery
from ams_grpc.push.outcome import Outcome
from ams_grpc.push.sender import Sender
from ams_grpc.services.ams.data import shown_data
from tests.receiver import Push, Receiver
from tests.server import free_port

HOOK = SubscriptionName("ACME", "hook")
HASH = "70b8" * 16
MESSAGE = pb.PubsubMessage(
    data=b"hello", message_id="7", publish_time=Timestamp(seconds=1)
).SerializeToString()


@pytest.fixture(scope="module")
def one_receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def receiver(one_receiver: Receiver) -> Receiver:
    one_receiver.forget()
    one_receiver.answer = lambda _: 200
    return one_receiver


@asynccontextmanager
async def delivering(rules: EndpointRules) -> AsyncIterator[AmsDelivery]:
    async with Sender(rules, ca_file=None, verify_tls=True) as sender:
        yield AmsDelivery(
            lambda: sender,
            rules,
            source=lambda: "ams.example.org:443",
            unseal=lambda sealed: sealed.removeprefix("sealed "),
            data_text=shown_data,
        )


@pytest.fixture
async def delivery() -> AsyncIterator[AmsDelivery]:
    async with delivering(EndpointRules(http=True, loopback=True)) as delivery:
        yield delivery


async def pushed(delivery: AmsDelivery, url: str, authorization: str = "") -> Outcome:
    return await delivery.push(
        HOOK, AmsPush(AmsEndpoint(url, HASH, True, authorization)), [MESSAGE]
    )


# --- deliveries -------------------------------------------------------------------------------------


async def test_an_endpoint_gets_json_and_the_bare_authorization(
    delivery: AmsDelivery, receiver: Receiver
) -> None:
    outcome = await pushed(delivery, receiver.url("/hook?a=1"), "sealed 4c1f9ab0")

    assert outcome == Outcome(True, "ack")
    [request] = receiver.pushes
    assert (request.method, request.path) == ("POST", "/hook?a=1")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["authorization"] == "4c1f9ab0"
    assert request.data == b"hello"
    assert request.json["subscription"].endswith("/hook from ams.example.org:443")


async def test_without_authorization_there_is_no_such_header(
    delivery: AmsDelivery, receiver: Receiver
) -> None:
    await pushed(delivery, receiver.url())

    assert "authorization" not in receiver.pushes[0].headers


@pytest.mark.parametrize(
    "status, accepted",
    [
        *((status, True) for status in (102, 200, 201, 204)),
        *((status, False) for status in (202, 203, 302, 400, 503)),
    ],
)
async def test_which_answers_accept(
    delivery: AmsDelivery, receiver: Receiver, status: int, accepted: bool
) -> None:
    receiver.answer = lambda _: status

    outcome = await pushed(delivery, receiver.url())

    assert outcome.accepted is accepted


async def test_the_answer_is_told_as_the_error_and_kept_out_of_the_log(
    delivery: AmsDelivery, receiver: Receiver
) -> None:
    receiver.answer = lambda _: web.Response(status=500, text="no: hello" + "x" * 5000)

    outcome = await pushed(delivery, receiver.url())

    assert outcome.reason == "status 500"
    assert outcome.answer == "no: hello" + "x" * 991
    assert "hello" not in repr(outcome)


async def test_who_does_not_listen_is_told_in_our_words(delivery: AmsDelivery) -> None:
    outcome = await pushed(delivery, f"http://127.0.0.1:{free_port()}/")

    assert outcome.kind == "unreachable"
    assert outcome.answer == outcome.reason == "no connection: Connection refused"


async def test_mattermost_accepts_with_200_alone(delivery: AmsDelivery, receiver: Receiver) -> None:
    push = AmsPush(AmsMattermost(receiver.url("/hooks/abc"), "ams", "alerts"))
    assert (await delivery.push(HOOK, push, [MESSAGE])).accepted
    assert receiver.pushes[0].json == {"text": "aGVsbG8=", "username": "ams", "channel": "alerts"}

    receiver.answer = lambda _: web.json_response({"message": "no channel"}, status=201)

    outcome = await delivery.push(HOOK, push, [MESSAGE])
    assert (outcome.accepted, outcome.answer) == (False, "no channel")


async def test_a_redirect_that_keeps_the_messages_is_followed(
    delivery: AmsDelivery, receiver: Receiver
) -> None:
    def answer(push: Push) -> int | web.Response:
        return (
            200 if push.path == "/new" else web.Response(status=308, headers={"Location": "/new"})
        )

    receiver.answer = answer

    assert (await pushed(delivery, receiver.url("/old"), "secret")).accepted
    assert [push.data for push in receiver.pushes] == [b"hello", b"hello"]
    assert receiver.pushes[1].headers["authorization"] == "secret"


async def test_another_host_does_not_get_the_authorization(
    delivery: AmsDelivery, receiver: Receiver
) -> None:
    with Receiver() as other:
        receiver.answer = lambda _: web.Response(status=307, headers={"Location": other.url()})

        assert (await pushed(delivery, receiver.url(), "secret")).accepted

        assert "authorization" not in other.pushes[0].headers


async def test_endless_redirects_end(delivery: AmsDelivery, receiver: Receiver) -> None:
    receiver.answer = lambda _: web.Response(status=307, headers={"Location": "/"})

    assert (await pushed(delivery, receiver.url())).reason == "too many redirects"
    assert len(receiver.pushes) == 11


# --- verification -----------------------------------------------------------------------------------


async def verified(delivery: AmsDelivery, url: str) -> str:
    return await delivery.verify(AmsEndpoint(url, HASH))


@pytest.mark.parametrize(
    "status, body, fault",
    [
        (200, HASH, ""),
        (200, f"{HASH}\n", "Wrong verification hash"),
        (200, f'"{HASH}"', "Wrong verification hash"),
        (200, HASH.upper(), "Wrong verification hash"),
        (200, "", "Wrong verification hash"),
        (201, HASH, "Wrong response status code"),
        (404, HASH, "Wrong response status code"),
        (304, "", "Wrong response status code"),
    ],
)
async def test_the_hash_has_to_be_answered_to_the_letter(
    delivery: AmsDelivery, receiver: Receiver, status: int, body: str, fault: str
) -> None:
    receiver.answer = lambda _: web.Response(status=status, text=body or None)

    assert await verified(delivery, receiver.url("/some/where?x=1")) == fault

    [request] = receiver.pushes
    assert (request.method, request.path) == ("GET", "/ams_verification_hash")
    assert "content-length" not in request.headers


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_of_a_verification_are_followed(
    delivery: AmsDelivery, receiver: Receiver, status: int
) -> None:
    def answer(push: Push) -> web.Response:
        if push.path == "/moved":
            return web.Response(text=HASH)
        return web.Response(status=status, headers={"Location": "/moved"})

    receiver.answer = answer

    assert await verified(delivery, receiver.url()) == ""


async def test_who_does_not_listen_is_not_verified(delivery: AmsDelivery) -> None:
    fault = await verified(delivery, f"http://127.0.0.1:{free_port()}/")

    assert fault == "no connection: Connection refused"


# --- where it may not go ----------------------------------------------------------------------------

NOT_PUBLIC = "its address is not public"


async def test_only_public_addresses_are_connected_to(receiver: Receiver) -> None:
    """Whatever a name means, or an endpoint answers."""
    with Receiver(
        lambda _: web.Response(status=307, headers={"Location": receiver.url()})
    ) as open_:
        rules = EndpointRules(http=True, allowed=["localhost"])
        async with delivering(rules) as delivery, asyncio.timeout(30):
            assert (await pushed(delivery, receiver.url())).answer == NOT_PUBLIC
            assert await verified(delivery, receiver.url()) == NOT_PUBLIC
            allowed = open_.url(host="localhost")
            assert (await pushed(delivery, allowed)).answer == NOT_PUBLIC
            assert await verified(delivery, allowed) == NOT_PUBLIC

        assert len(open_.pushes) == 2
    assert receiver.pushes == []


async def test_a_redirect_leads_only_where_an_endpoint_could_be(receiver: Receiver) -> None:
    """Here by address alone, not by a name that nobody has allowed."""
    elsewhere = receiver.url("/elsewhere", host="localhost")
    receiver.answer = lambda _: web.Response(status=307, headers={"Location": elsewhere})
    async with delivering(EndpointRules(http=True, allowed=["127.0.0.1"])) as delivery:
        assert (await pushed(delivery, receiver.url())).answer == NOT_PUBLIC
        assert await verified(delivery, receiver.url()) == NOT_PUBLIC
    assert [push.path for push in receiver.pushes] == ["/", "/ams_verification_hash"]


async def test_a_name_is_checked_by_what_it_means(receiver: Receiver) -> None:
    with pytest.MonkeyPatch.context() as patch:
        rules = EndpointRules(http=True)
        patch.setattr(rules, "accepts", lambda _: True)  # as if localhost were any other name
        async with delivering(rules) as delivery:
            url = receiver.url(host="localhost")
            assert (await pushed(delivery, url)).answer == NOT_PUBLIC
            assert await verified(delivery, url) == NOT_PUBLIC
    assert receiver.pushes == []


async def test_webhooks_that_are_no_urls_go_nowhere(delivery: AmsDelivery) -> None:
    """AMS does not look at them when they are set."""
    for webhook in ("hooks", "ftp://a.b/c", "http://user:pw@127.0.0.1/"):
        push = AmsPush(AmsMattermost(webhook))
        assert (await delivery.push(HOOK, push, [MESSAGE])).kind == "refused"
