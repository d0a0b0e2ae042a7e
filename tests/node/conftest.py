"""Google's client for Node, and a server for it on each kind of database.

The packages are installed into `.cache`, once for each state of `package-lock.json`; `npm` takes
them from the registry that it is set up for.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.server import Server

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".cache" / "node"
MANIFESTS = ("package.json", "package-lock.json")
INSTALL_TIMEOUT_S = 300.0
MIN_NODE = 20


@pytest.fixture(scope="session")
def node() -> str:
    """The Node to run."""
    found = shutil.which("node")
    if found is None:
        _leave_out("Node is not installed, so its Pub/Sub client cannot be tested")
    version = subprocess.run([found, "--version"], check=True, capture_output=True, text=True)
    if int(version.stdout.lstrip("v").split(".")[0]) < MIN_NODE:
        _leave_out(f"Node {MIN_NODE} is needed, and this is {version.stdout.strip()}")
    return found


def _leave_out(reason: str) -> NoReturn:
    """On a developer's machine Node may be missing; where the verdict is made it may not."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def node_modules(node: str) -> Path:
    """Where the client is installed."""
    manifests = b"".join((HERE / name).read_bytes() for name in MANIFESTS)
    place = CACHE / hashlib.sha256(manifests).hexdigest()[:16]
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "installed").exists():
            _install(node, place)
    return place / "node_modules"


def _install(node: str, place: Path) -> None:
    """Leaves nothing that looks installed unless it is."""
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError(f"{node} is there, but npm is not: it comes with Node")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for name in MANIFESTS:
        shutil.copy(HERE / name, place)
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(
        command,
        cwd=place,
        check=False,
        capture_output=True,
        text=True,
        timeout=INSTALL_TIMEOUT_S,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    (place / "installed").touch()


@pytest.fixture(scope="session")
def buckets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all buckets that subscriptions export to."""
    return tmp_path_factory.mktemp("buckets")


@pytest.fixture(scope="session")
def server(shared_server: Callable[..., Server], buckets: Path) -> Server:
    """One for all subjects. Deadlines of a second, which `emulator` allows, keep tests short."""
    return shared_server(profile="emulator", admin=True, settings={"EXPORT_ROOT": str(buckets)})


@pytest.fixture
def environment(node_modules: Path, server: Server, buckets: Path) -> Iterator[dict[str, str]]:
    """What a script needs to find the client, and the client to find the server.

    What the server logs meanwhile is shown if the test fails.
    """
    already_logged = len(server.log())
    yield os.environ | {
        "NODE_PATH": str(node_modules),
        "PUBSUB_EMULATOR_HOST": server.endpoint,
        "METADATA_SERVER_DETECTION": "none",  # it would look for a machine of Google's
        "NO_COLOR": "1",
        "TEST_ADMIN_URL": f"http://{server.admin_endpoint}",
        "TEST_BUCKETS": str(buckets),
    }
    sys.stderr.write(server.log()[already_logged:])
