"""Who makes the call that runs: see ``services.callers``, which both doors use."""

from ams_grpc.services.callers import caller, set_caller

__all__ = ["caller", "set_caller"]
