"""Every setting: default, unit, meaning.

Defaults < TOML file (``--config`` or ``AMS_CONFIG``) < environment (``AMS_*``) < flags. Unknown
keys in the file are errors.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from ams_grpc.broker.endpoints import EndpointRules
from ams_grpc.broker.profiles import PROFILES
from http_bridge.addresses import is_loopback, split_address

CONFIG_FILE_VARIABLE: Final = "AMS_CONFIG"
_MIB: Final = 1024 * 1024
_SHORTEST_TOKEN: Final = 32
_ANY_ADDRESS: Final = {"0.0.0.0", "::"}  # noqa: S104 - to be told from others
_SMALLEST_REQUEST: Final = 1_500_000
"""AMS: a publish of the largest message there, and what JSON and base64 put around it."""


_BUCKET: Final = "{bucket}"


class ExportBucket(BaseModel):
    """Where one bucket of exports is, if not where all are."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: str
    options: dict[str, SecretStr] = {}

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        return _checked_bucket_url(url)


class Config(BaseSettings):
    """The settings of one server process."""

    model_config = SettingsConfigDict(
        env_prefix="AMS_", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    grpc_address: str = Field(
        "127.0.0.1:8085", description="HOST:PORT of the gRPC API; port 0: any"
    )
    admin_address: str | None = Field(
        None,
        description="HOST:PORT of /metrics, /healthz, /readyz and the keys of push tokens; unset: off",
    )
    google_rest_address: str | None = Field(
        None,
        description="HOST:PORT of Google's REST API of Pub/Sub; HTTPS with a certificate; unset: off",
    )
    ams_address: str | None = Field(
        None,
        description="HOST:PORT of the REST API of AMS; HTTPS with a certificate; unset: off",
    )
    one_port: bool | None = Field(
        None,
        description="The gRPC address speaks Google's REST API, too; unset: as the profile says, and "
        "neither with TLS nor with auth",
    )
    rest_max_bytes: int = Field(
        20 * _MIB, ge=_SMALLEST_REQUEST, description="The largest body of a REST request"
    )
    rest_timeout_s: float = Field(
        60.0, gt=0, description="Seconds that a REST request may take, reading its body included"
    )
    cors_origins: tuple[str, ...] = Field(
        (),
        description="Origins whose pages may call the REST APIs, such as https://ui.example.org, or "
        "*; empty: none",
    )
    data: Path = Field(Path("data"), description="Folder of the SQLite database")
    database_url: SecretStr | None = Field(
        None, description="SQLAlchemy URL (sqlite or postgresql+psycopg); unset: SQLite in `data`"
    )
    profile: Literal["strict", "emulator"] | None = Field(
        None, description="Unset: emulator if only this machine reaches the service, or strict"
    )
    auth: bool = Field(
        False, description="Callers need a token, and may do what their roles allow; off: open mode"
    )
    proxy_hostname: str = Field(
        "", description="Host name that AMS's /v1/version shows, such as that of a load balancer"
    )
    per_resource_auth: bool = Field(
        True,
        description="AMS: publishers and consumers must be on the access list of a topic or "
        "subscription",
    )
    ams_pull_wait_s: float = Field(
        3.0,
        ge=0,
        le=50,
        description="AMS: seconds that a pull with returnImmediately false waits for a message",
    )
    admin_token_file: Path | None = Field(
        None, description="Where the first service_admin's token is written, when there is none yet"
    )
    admin_token: SecretStr | None = Field(
        None,
        description="The first service_admin's token, when there is none yet; 32 or more"
        " characters",
    )
    insecure: bool = Field(
        False, description="Listen on a public address although callers are not authenticated"
    )
    tls_cert: Path | None = Field(
        None, description="PEM file: certificate chain of the gRPC and REST APIs"
    )
    tls_key: Path | None = Field(None, description="PEM file: private key of tls_cert")
    tls_self_signed: bool = Field(
        False,
        description="TLS with a certificate that is made at the first start, in `data`, and an "
        "authority beside it for clients to trust",
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console on a terminal, else json"
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    cache_bytes: int = Field(
        32 * _MIB, ge=_MIB, description="Messages kept in memory for all subscriptions together"
    )
    read_bytes: int = Field(
        _MIB, ge=4096, description="How much is read from a topic's log at a time"
    )
    queue_bytes: int = Field(
        64 * _MIB, ge=_MIB, description="Publishes waiting for the database; beyond, they wait"
    )
    queue_timeout_s: float = Field(
        10.0, gt=0, description="Seconds a publish waits for a place in that queue"
    )
    max_outstanding: int = Field(
        100_000, ge=1000, description="Messages of one subscription that may be out at subscribers"
    )
    retention_interval_s: float = Field(
        30.0, gt=0, description="Seconds between two passes that delete what has expired"
    )
    idempotency_window_s: float = Field(
        86_400.0, gt=0, description="Seconds that the idempotency key of a publish is remembered"
    )
    push_max_parallel: int = Field(
        100, ge=1, le=10_000, description="Push requests of one subscription that may run at once"
    )
    push_requests: int = Field(
        400, ge=1, description="Push requests of all subscriptions together that may run at once"
    )
    push_bytes: int = Field(64 * _MIB, ge=_MIB, description="Messages in those requests, in bytes")
    push_http: bool | None = Field(
        None, description="Push endpoints may be http://; unset: as the profile says"
    )
    push_allowed_hosts: tuple[str, ...] = Field(
        (),
        description="Where to push although it is not public: networks (10.0.0.0/8), addresses, "
        "host names (hooks.internal, *.internal)",
    )
    push_ca_file: Path | None = Field(
        None, description="PEM file: authorities to trust at push endpoints, beside the system's"
    )
    push_verify_tls: bool = Field(
        True, description="False: push to https endpoints whose certificates are not valid, too"
    )
    push_issuer: str | None = Field(
        None,
        description="URL that receivers verify push tokens by; the service answers below it, on its "
        "admin address. Unset: http:// and that address",
    )
    push_token_accounts: tuple[str, ...] = Field(
        (),
        description="Service accounts that push tokens may name: addresses, or *@ and a domain; "
        "empty: any",
    )
    push_enabled: bool = Field(
        True, description="False: AMS's push is off (Pub/Sub's is another one)"
    )
    push_worker_token: SecretStr | None = Field(
        None,
        description="Token of the user whom AMS's tools know as the push worker, if there is to be one",
    )
    push_source: str | None = Field(
        None,
        description="HOST:PORT that AMS's pushes name as their sender; unset: ams_address, with this "
        "host's name if that is any address",
    )
    drain_notice_s: float = Field(
        0.5, ge=0, description="Seconds that health says NOT_SERVING before streams and calls end"
    )
    drain_s: float = Field(20.0, ge=0, description="Seconds that running calls then have to finish")

    export_root: Path | None = Field(
        None, description="Folder whose subfolders are the buckets of exports; unset: data/buckets"
    )
    export_url: str | None = Field(
        None,
        description="s3:// or gs:// URL of each bucket of exports, {bucket} in place of its name; "
        "unset: buckets are folders",
    )
    export_options: dict[str, SecretStr] = Field(
        {},
        description="For export_url: endpoint, region, access_key_id, secret_access_key ...; "
        "unset ones come from AWS_* and GOOGLE_* variables",
    )
    export_buckets: dict[str, ExportBucket] = Field(
        {}, description="Buckets that are somewhere else: url and options of each"
    )

    @field_validator("export_url")
    @classmethod
    def _check_export_url(cls, url: str | None) -> str | None:
        if url is not None and _BUCKET not in url:
            raise ValueError(f"{_BUCKET} must stand where the name of a bucket is to go")
        return None if url is None else _checked_bucket_url(url)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key go together")
        if self.tls_self_signed and self.tls_cert is not None:
            raise ValueError("tls_self_signed makes a certificate; tls_cert names one")
        if self.one_port and (self.has_tls or self.auth):
            raise ValueError("one_port is for development: it goes with neither TLS nor auth")
        for origin in self.cors_origins:
            _check_origin(origin)
        mask_url(self.effective_database_url.get_secret_value())
        EndpointRules(allowed=self.push_allowed_hosts, accounts=self.push_token_accounts)
        if self.push_issuer is not None and not re.match("https?://[^/]", self.push_issuer):
            raise ValueError("push_issuer is no http:// or https:// URL")
        if self.push_ca_file is not None:
            try:
                ssl.create_default_context(cafile=self.push_ca_file)
            except OSError:
                raise ValueError(f"{self.push_ca_file} has no certificates to read") from None
        authenticated = (self.grpc_address, self.google_rest_address) if self.auth else ()
        for address in (self.grpc_address, self.admin_address, self.google_rest_address):
            if address is None or address in authenticated:
                continue
            if not (is_loopback(split_address(address)[0]) or self.insecure):
                raise ValueError(
                    f"{address} can be reached from other machines, and callers are not "
                    "authenticated; listen on 127.0.0.1, say --auth, or say --insecure to do it "
                    "all the same"
                )
        if self.ams_address is not None:
            split_address(self.ams_address)  # it asks for a token itself, and may be anywhere
        if self.admin_token is not None:
            _check_token(self.admin_token.get_secret_value())
        return self

    @property
    def effective_database_url(self) -> SecretStr:
        """The database to open."""
        if self.database_url is not None:
            return self.database_url
        return SecretStr(f"sqlite:///{self.data / 'ams.db'}")

    @property
    def effective_profile(self) -> Literal["strict", "emulator"]:
        """The profile that applies."""
        if self.profile is not None:
            return self.profile
        is_open = not self.auth and self._is_for_this_machine
        return "emulator" if is_open else "strict"

    @property
    def has_tls(self) -> bool:
        """True if the gRPC and REST APIs are reached over TLS."""
        return self.tls_cert is not None or self.tls_self_signed

    @property
    def effective_one_port(self) -> bool:
        """Whether the gRPC address speaks Google's REST API, too.

        With TLS gRPC itself decrypts, and with auth it has to know who is at the other end.
        """
        if self.one_port is not None:
            return self.one_port
        return self.effective_profile == "emulator" and not (self.has_tls or self.auth)

    @property
    def _is_for_this_machine(self) -> bool:
        """True if no other machine reaches any of the addresses."""
        addresses = (
            self.grpc_address,
            self.google_rest_address,
            self.ams_address,
            self.admin_address,
        )
        return all(
            address is None or is_loopback(split_address(address)[0]) for address in addresses
        )

    @property
    def effective_push_issuer(self) -> str:
        """What push tokens name as their issuer."""
        return self.push_issuer or f"http://{self.admin_address or self.grpc_address}"

    def effective_push_source(self, taken: str) -> str:
        """What AMS's pushes name as their sender.

        ``taken``: where AMS is served, or else gRPC, with the port that was really taken.
        """
        if self.push_source is not None:
            return self.push_source
        configured = self.ams_address or self.grpc_address
        host, port = configured.rpartition(":")[0], taken.rpartition(":")[2]
        if split_address(configured)[0] in _ANY_ADDRESS:
            host = socket.gethostname()
        return f"{host}:{port}"

    @property
    def endpoint_rules(self) -> EndpointRules:
        """Where the service may push to."""
        profile = PROFILES[self.effective_profile]
        return EndpointRules(
            http=profile.push_over_http if self.push_http is None else self.push_http,
            loopback=profile.push_to_loopback and self._is_for_this_machine,
            allowed=self.push_allowed_hosts,
            accounts=self.push_token_accounts,
        )

    @property
    def effective_export_root(self) -> Path:
        """The folder of the buckets that are folders."""
        return self.data / "buckets" if self.export_root is None else self.export_root

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags before environment before file."""
        file = os.environ.get(CONFIG_FILE_VARIABLE)
        if file is None:
            return init_settings, env_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, Path(file))

    def shown(self) -> dict[str, Any]:
        """The effective settings as plain values, with secrets masked."""
        values = self.model_dump(mode="json")
        values["database_url"] = mask_url(self.effective_database_url.get_secret_value())
        values["profile"] = self.effective_profile
        values["one_port"] = self.effective_one_port
        values["export_root"] = str(self.effective_export_root)
        return values


def _check_token(token: str) -> None:
    if len(token) < _SHORTEST_TOKEN or not (token.isascii() and token.isprintable()):
        raise ValueError(
            f"admin_token has at least {_SHORTEST_TOKEN} visible ASCII characters; "
            "64 random hexadecimal ones are good"
        )
    if " " in token:
        raise ValueError("admin_token has no blanks")


def _check_origin(origin: str) -> None:
    parts = urlsplit(origin)
    is_one = parts.scheme and parts.netloc and origin == f"{parts.scheme}://{parts.netloc}"
    if origin != "*" and not is_one:
        raise ValueError(f"{origin!r} is no origin: it is SCHEME://HOST[:PORT], or *")


def _checked_bucket_url(url: str) -> str:
    """Credentials have their own place; in an address they would be shown."""
    parts = urlsplit(url.replace(_BUCKET, "bucket"))
    if parts.scheme not in {"s3", "gs"} or not parts.hostname:
        raise ValueError("the URL of a bucket begins with s3:// or gs://, and its name follows")
    if parts.username is not None or parts.query or parts.fragment or parts.port is not None:
        raise ValueError("the URL of a bucket has nothing but its name and a prefix")
    return url


def revealed(options: Mapping[str, SecretStr]) -> dict[str, str]:
    """Secrets, for whoever is to use them."""
    return {name: value.get_secret_value() for name, value in options.items()}


def mask_url(url: str) -> str:
    """A database URL without its password, also where that is a query parameter.

    Raises ValueError for what is no URL.
    """
    from sqlalchemy import make_url  # noqa: PLC0415 - late, so that --help is quick
    from sqlalchemy.exc import ArgumentError  # noqa: PLC0415

    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ValueError("database_url is no URL of a database") from None
    query = {key: "***" if "password" in key else value for key, value in parsed.query.items()}
    return parsed.set(query=query).render_as_string(hide_password=True)
