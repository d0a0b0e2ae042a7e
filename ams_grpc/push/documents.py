"""Where receivers find what they need to verify tokens: paths below the issuer's URL."""

from __future__ import annotations

from typing import Final

CERTIFICATES: Final = "/oauth2/v3/certs"
DISCOVERY: Final = "/.well-known/openid-configuration"
