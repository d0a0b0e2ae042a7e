"""``python -m ams_grpc``."""

from ams_grpc.cli import main

main()
