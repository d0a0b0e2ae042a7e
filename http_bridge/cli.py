"""The bridge on its own: ``ams-bridge --target HOST:PORT`` in front of a server elsewhere."""

from __future__ import annotations

import asyncio
import signal
import ssl
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import grpc
from google.iam.v1 import iam_policy_pb2  # type: ignore[import-untyped]

from ams_grpc.pb.ams.v1 import access_pb2, accounts_pb2, metrics_pb2, schemas_pb2
from ams_grpc.pb.ams.v1 import pubsub_pb2 as ams_pubsub_pb2
from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2, schema_pb2
from http_bridge.addresses import is_loopback, joined_address, split_address
from http_bridge.ams.app import AmsRest
from http_bridge.caller import Caller, ChannelCaller
from http_bridge.google.app import GoogleRest
from http_bridge.limits import Limits
from http_bridge.serving import Handler, serving

_USUAL: Final = Limits()
_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
_GOOGLE = [
    service
    for file in (pubsub_pb2, schema_pb2, iam_policy_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
]
_AMS = [
    service
    for file in (access_pb2, accounts_pb2, metrics_pb2, ams_pubsub_pb2, schemas_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
]


@dataclass(frozen=True, slots=True)
class _Doors:
    """Where the bridge listens, and how; ``HOST:PORT``, None: not at all."""

    google_rest: str | None
    ams: str | None
    tls: ssl.SSLContext | None
    limits: Limits
    cors_origins: tuple[str, ...]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--target", required=True, metavar="HOST:PORT", help="The gRPC server.")
@click.option("--ca", type=_FILE, help="It has TLS; PEM file of the authority to trust.")
@click.option(
    "--google-rest-address",
    metavar="HOST:PORT",
    help="Google's REST API; 127.0.0.1:8086 if no address is given at all.",
)
@click.option("--ams-address", metavar="HOST:PORT", help="The REST API of AMS.")
@click.option("--tls-cert", type=_FILE, help="Serve HTTPS: PEM file of the certificate chain.")
@click.option("--tls-key", type=_FILE, help="PEM file of its key.")
@click.option(
    "--cors-origin", multiple=True, help="An origin whose pages may call, or *; may be repeated."
)
@click.option("--max-bytes", default=_USUAL.max_bytes, help="The largest body of a request.")
@click.option("--timeout-s", default=_USUAL.timeout_s, help="Seconds a request may take.")
@click.version_option(package_name="ams-grpc")
def main(
    target: str,
    ca: Path | None,
    google_rest_address: str | None,
    ams_address: str | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    cors_origin: tuple[str, ...],
    max_bytes: int,
    timeout_s: float,
) -> None:
    """Serve REST APIs in front of a gRPC server, until SIGTERM or SIGINT."""
    if google_rest_address is None and ams_address is None:
        google_rest_address = "127.0.0.1:8086"
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key go together")
    try:
        for address in (google_rest_address, ams_address):
            split_address(address or "-:0")
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    try:
        doors = _Doors(
            google_rest_address,
            ams_address,
            _tls(tls_cert, tls_key),
            Limits(max_bytes, timeout_s),
            cors_origin,
        )
        asyncio.run(_serve(target, None if ca is None else ca.read_bytes(), doors))
    except OSError as error:
        raise click.ClickException(f"cannot listen: {error.strerror or error}") from None


def _tls(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert, key)
    return context


async def _serve(target: str, ca: bytes | None, doors: _Doors) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_metadata_size", 4 << 20)]
    channel = (
        grpc.aio.insecure_channel(target, options)
        if ca is None
        else grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(ca), options)
    )
    async with channel, AsyncExitStack() as parts:
        caller = ChannelCaller(channel)
        taken = []
        for name, address, rest in (
            ("google_rest", doors.google_rest, _google_rest),
            ("ams", doors.ams, _ams_rest),
        ):
            if address is not None:
                host, port = split_address(address)
                served = serving(rest(caller, host, doors), host, port, doors.tls)
                port = await parts.enter_async_context(served)
                taken.append(f"{name}={joined_address(host, port)}")
        click.echo(f"ready {' '.join(taken)} target={target}")
        await stop.wait()


def _google_rest(caller: Caller, host: str, doors: _Doors) -> Handler:
    rest = GoogleRest(
        caller,
        _GOOGLE,
        on_loopback=is_loopback(host),
        limits=doors.limits,
        cors_origins=doors.cors_origins,
    )
    return rest.handler


def _ams_rest(caller: Caller, _host: str, doors: _Doors) -> Handler:
    return AmsRest(caller, _AMS, limits=doors.limits, cors_origins=doors.cors_origins).handler
