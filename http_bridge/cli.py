"""The bridge on its own: ``ams-bridge --target HOST:PORT`` in front of a server elsewhere."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import click
import grpc
from google.iam.v1 import iam_policy_pb2  # type: ignore[import-untyped]

from ams_grpc.pb.google.pubsub.v1 import pubsub_pb2, schema_pb2
from http_bridge.app import GoogleRest, is_loopback, serving
from http_bridge.caller import ChannelCaller

_SERVICES = [
    service
    for file in (pubsub_pb2, schema_pb2, iam_policy_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--target", required=True, metavar="HOST:PORT", help="The gRPC server.")
@click.option("--ca", type=click.Path(exists=True, path_type=Path), help="It has TLS; PEM file.")
@click.option("--google-rest-address", default="127.0.0.1:8086", metavar="HOST:PORT")
@click.version_option(package_name="ams-grpc")
def main(target: str, ca: Path | None, google_rest_address: str) -> None:
    """Serve Google's REST API of Pub/Sub in front of a gRPC server, until SIGTERM or SIGINT."""
    host, _, port = google_rest_address.rpartition(":")
    if not host or not port.isdecimal():
        raise click.BadParameter(f"{google_rest_address!r} is not HOST:PORT")
    try:
        root = None if ca is None else ca.read_bytes()
        asyncio.run(_serve(target, root, host.strip("[]"), int(port)))
    except OSError as error:
        raise click.ClickException(f"cannot listen: {error.strerror}") from None


async def _serve(target: str, ca: bytes | None, host: str, port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_metadata_size", 4 << 20)]
    channel = (
        grpc.aio.insecure_channel(target, options)
        if ca is None
        else grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(ca), options)
    )
    async with channel:
        rest = GoogleRest(ChannelCaller(channel), _SERVICES, on_loopback=is_loopback(host))
        async with serving(rest.application(), host, port) as taken:
            click.echo(f"ready google_rest={host}:{taken} target={target}")
            await stop.wait()
