"""The Protocol Buffers compiler, at arm's length.

It reads what users wrote, so it runs in a process of its own, which has limits (see
``protoc_child``) and an empty environment, and sees one folder with one file.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from ams_grpc.schemas.errors import DefinitionError

TIMEOUT_S: Final = 10.0
MAX_COMPILED_BYTES: Final = 2 * 1024 * 1024
_MAX_ERROR_CHARS: Final = 400
_CHILD: Final = Path(__file__).with_name("protoc_child.py")


def compile_proto(text: str) -> bytes:
    """The serialized FileDescriptorSet of a .proto file that imports nothing.

    Blocks for a fraction of a second, at most ``TIMEOUT_S``. Raises DefinitionError.
    """
    with tempfile.TemporaryDirectory(prefix="ams-schema-") as folder:
        Path(folder, "schema.proto").write_text(text, encoding="utf-8", newline="")
        errors = Path(folder, "errors")  # a file, since its size is limited, and a pipe's is not
        try:
            # Python's subprocess, not the event loop's: it uses vfork(), and so none of the handlers
            # that gRPC has for fork().
            with errors.open("wb") as stderr:
                child = subprocess.run(  # noqa: S603  # our own program, and no shell
                    [sys.executable, "-I", str(_CHILD), folder],
                    env={},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=stderr,
                    timeout=TIMEOUT_S,
                    check=False,
                )
        except subprocess.TimeoutExpired:
            raise DefinitionError("compiling it takes too long") from None
        compiled = Path(folder, "compiled")
        if child.returncode == 0 and compiled.exists():
            if compiled.stat().st_size > MAX_COMPILED_BYTES:
                raise DefinitionError("it is too large when compiled")
            return compiled.read_bytes()
        if child.returncode < 0:
            raise DefinitionError("compiling it takes too much time or memory")
        with errors.open(errors="replace") as lines:
            raise DefinitionError(_first_error(lines))


def _first_error(lines: Iterable[str]) -> str:
    """What protoc complains about first, with line and column but without our paths."""
    for line in lines:
        _, name, complaint = line.partition("schema.proto:")
        if name and "warning:" not in complaint:
            return complaint.strip()[:_MAX_ERROR_CHARS]
    return "compiling it failed"
