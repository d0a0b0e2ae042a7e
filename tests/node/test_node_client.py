"""Google's client for Node against the service. The tests are in `subjects`, one file a subject."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

SUBJECTS = sorted((Path(__file__).parent / "subjects").glob("*.test.js"))
TIMEOUT_S = 300.0


@pytest.mark.timeout(TIMEOUT_S + 320)  # the first one may have to install the client
@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda path: path.name.removesuffix(".test.js"))
def test_the_node_client_works(subject: Path, node: str, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [node, "--test", "--test-reporter=spec", str(subject)],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment,
        text=True,
        timeout=TIMEOUT_S,
    )

    assert done.returncode == 0, f"\n{done.stdout}{done.stderr}"
    assert _count(done.stdout, "pass") > 0
    assert _count(done.stdout, "tests") == _count(done.stdout, "pass"), "all ran, none was skipped"


def _count(report: str, what: str) -> int:
    """A number at the end of Node's report: `tests 7`, `pass 7`."""
    found = re.findall(rf"^\S+ {what} (\d+)$", report, re.MULTILINE)
    return int(found[-1])
