"""Whether a transform's code is any good, before a topic or subscription gets it."""

from __future__ import annotations

from collections.abc import Sequence

from ams_grpc.broker.errors import invalid_argument
from ams_grpc.broker.policies import JavaScriptTransform, Transform
from ams_grpc.transforms.lanes import Lanes


class TransformCheck:
    """Implements ``broker.ports.TransformCheck``."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes

    async def __call__(self, transforms: Sequence[Transform]) -> None:
        for transform in transforms:
            if isinstance(transform, JavaScriptTransform):
                await self._check(transform.function_name, transform.code)

    async def _check(self, name: str, code: str) -> None:
        answers = await self._lanes.check(lambda worker: worker.run(name, code, ()))
        for _, reason in answers:
            raise invalid_argument(
                f"message_transforms: function {name}: {reason}",
                field="message_transforms.javascript_udf.code",
            )
