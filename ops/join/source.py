"""The host that has the keys: what it hands over, and where it listens."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from pydantic import SecretStr

from ops.join.grant import Grant
from tasks.errors import ConfigError
from tasks.settings import Settings
from worker.private import keys as workload

_CA = "ssl_ca_certs"
_OWN_FILES = ("ssl_certfile", "ssl_keyfile", "ssl_ca_path")
_HERE = {"127.0.0.1", "localhost", "::1"}


def grant_of(settings: Settings, redis_url: str | None = None, ca: Path | None = None) -> Grant:
    """What a new host needs of ours. `redis_url`: as the others dial it, ours when None. Raises ConfigError."""
    url = redis_url or settings.redis_url
    parts = urlsplit(url)
    if redis_url is None:
        _check_reachable(parts)
    query = dict(parse_qsl(parts.query))
    if own := [name for name in _OWN_FILES if name in query]:
        raise ConfigError(
            f"the Redis URL names a file of this host ({own[0]}), which another host does not have; give the URL for "
            "the others with --redis-url"
        )
    if named := query.pop(_CA, None):
        url = parts._replace(query=urlencode(query)).geturl()
    return Grant(
        redis_url=SecretStr(url),
        ca=_ca_text(ca or (Path(named) if named else None)),
        fleet_keys=tuple(SecretStr(key.to_base64()) for key in settings.fleet_keys()),
        workload_keys=tuple(SecretStr(key.to_base64()) for key in workload.load(settings.workload_key_file)),
    )


def own_address(redis_url: str) -> str:
    """The address of this host on the way to the fleet's Redis, or to anywhere: what others can dial, most likely."""
    parts = urlsplit(redis_url)
    there = parts.hostname if parts.hostname and parts.hostname not in _HERE else "192.0.2.1"  # RFC 5737: nobody's
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:  # connecting a datagram socket sends nothing
        try:
            probe.connect((there, parts.port or 6379))
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()


def _check_reachable(parts: SplitResult) -> None:
    if parts.scheme == "unix" or parts.hostname in _HERE:
        raise ConfigError(
            "this host's Redis (PENDRA_REDIS_URL) can be reached from this host only; run one that the others reach "
            "(with TLS and a password) and give its URL with --redis-url rediss://user:password@host:6379/0"
        )


def _ca_text(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"the CA file {path} cannot be read ({type(exc).__name__})") from None
    if "BEGIN CERTIFICATE" not in text or "PRIVATE KEY" in text:
        raise ConfigError(f"{path} is not a CA in PEM form (certificates, and no private key)")
    return text
