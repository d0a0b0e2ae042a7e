"""``python -m http_bridge`` is ``ams-bridge``."""

from http_bridge.cli import main

main()
