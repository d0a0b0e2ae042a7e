"""Compiles one .proto file, in a process of its own: ``python protoc_child.py FOLDER``.

The definition comes from a user, so this process may use little of anything. FOLDER holds
``schema.proto``, and is the only place where protoc looks; the result is FOLDER/``compiled``.
"""

import os
import resource
import sys

_MIB = 1024 * 1024
_LIMITS = {
    resource.RLIMIT_AS: 256 * _MIB,
    resource.RLIMIT_CPU: 5,
    resource.RLIMIT_FSIZE: 4 * _MIB,
    resource.RLIMIT_NOFILE: 32,
    resource.RLIMIT_CORE: 0,
}


def main(folder: str) -> int:
    for limit, most in _LIMITS.items():
        if limit == resource.RLIMIT_AS and sys.platform == "darwin":
            continue  # macOS does not take it
        resource.setrlimit(limit, (most, most))
    from grpc_tools import (  # type: ignore[import-untyped]  # noqa: PLC0415  # under the limits
        _protoc_compiler,
    )

    os.chdir(folder)
    status: int = _protoc_compiler.run_main(
        [b"protoc", b"--proto_path=.", b"--descriptor_set_out=compiled", b"schema.proto"]
    )
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
