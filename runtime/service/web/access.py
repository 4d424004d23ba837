"""Access control: the token, the cookie of a logged-in page, and the accepted host names."""

import hmac
import ipaddress
import re
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from runtime.service.config import WebConfig
from stm_skeletons.errors import ServiceError

COOKIE = "stm-skeletons"
COOKIE_SECONDS = 7 * 86_400

_SHORTEST, _LONGEST = 16, 256
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253})(?::[0-9]{1,5})?")
_SECRET_OF_COOKIES = b"stm-skeletons: cookies of the page"


class Access:
    """Checks requests. Without a token (loopback only), every request with a valid Host header is admitted."""

    def __init__(self, config: WebConfig) -> None:
        """Raises ServiceError if a required token is missing or cannot be read."""
        self._loopback = is_loopback(config.host)
        self._host = config.host.lower()
        self._token = _read_token(config)
        self._key = hmac.digest(self._token, _SECRET_OF_COOKIES, "sha256")
        self.wants_token = bool(self._token)

    def admits(self, headers: Mapping[str, str]) -> bool:
        """Whether a request with these headers (names in lower case) carries the token or a valid cookie."""
        if not self.wants_token:
            return True
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.is_token(token.strip())
        return self._is_cookie(_cookie_of(headers.get("cookie", "")))

    def is_token(self, text: str) -> bool:
        """Whether this is the token, compared in constant time."""
        return hmac.compare_digest(text.encode(errors="replace"), self._token)

    def new_cookie(self) -> str:
        """Return a cookie that replaces the token. It stays valid across restarts."""
        until = str(int(time.time()) + COOKIE_SECONDS)
        return f"{until}.{self._signature(until)}"

    def is_our_host(self, header: str) -> bool:
        """Whether a Host header names this machine, to block DNS rebinding.

        Beyond loopback, any numeric address and the machine's own name in any domain are accepted.
        """
        if (match := _HOST.fullmatch(header)) is None:
            return False
        name = match[1].strip("[]").lower().rstrip(".")
        if name in ("localhost", self._host):
            return True
        try:
            return ipaddress.ip_address(name).is_loopback or not self._loopback
        except ValueError:
            return not self._loopback and name.partition(".")[0] == socket.gethostname().partition(".")[0].lower()

    def _is_cookie(self, text: str) -> bool:
        until, _, signature = text.partition(".")
        known = hmac.compare_digest(signature.encode(errors="replace"), self._signature(until).encode())
        return known and int(until) > time.time()

    def _signature(self, text: str) -> str:
        return hmac.digest(self._key, text.encode(errors="replace"), "sha256").hex()


def is_loopback(host: str) -> bool:
    """Whether the address is reachable from this machine only. Names other than localhost count as reachable."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_same_origin(origin: str, host: str) -> bool:
    """Whether an Origin header matches this Host header."""
    scheme, found, rest = origin.lower().partition("://")
    if scheme not in ("http", "https") or not found:
        return False
    port = ":443" if scheme == "https" else ":80"
    return rest.removesuffix(port) == host.lower().removesuffix(port)


def _cookie_of(header: str) -> str:
    for pair in header.split(";"):
        name, _, value = pair.strip().partition("=")
        if name == COOKIE:
            return value
    return ""


def _read_token(config: WebConfig) -> bytes:
    """Return the token; empty if none is required."""
    if config.token_file is None:
        if is_loopback(config.host):
            return b""
        raise ServiceError(
            f"web.host {config.host} is reachable from other machines; set web.token_file to a file with a token"
        )
    try:
        with Path(config.token_file).open("rb") as file:
            token = file.read(_LONGEST + 64).strip()
    except (OSError, ValueError) as error:
        what = getattr(error, "strerror", None) or error
        raise ServiceError(f"cannot read web.token_file {config.token_file}: {what}") from error
    if not _SHORTEST <= len(token) <= _LONGEST or not re.fullmatch(rb"[!-~]+", token):
        raise ServiceError(
            f"the token in web.token_file {config.token_file} must have {_SHORTEST} to {_LONGEST} ASCII characters "
            "without spaces, for example the output of 'openssl rand -hex 32'"
        )
    return token
