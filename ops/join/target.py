"""The new host: where what it was handed is written. Nothing is replaced unasked; every file has mode 0600."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

from ops.join.grant import Grant
from tasks import atomic_file, key_file, settings_file, settings_values
from tasks.errors import ConfigError
from tasks.settings import Settings

CA_NAME = "redis-ca.pem"


def check_room(settings: Settings) -> None:
    """Raises ConfigError(`would_overwrite`) for a host that has keys already, before the token is spent."""
    if settings.fleet_key is not None:
        raise ConfigError(
            "PENDRA_FLEET_KEY (or fleet_key in the file) is set on this host and would win over the joined fleet's "
            "key; take it out first",
            code="would_overwrite",
        )
    there = [path for path in (settings.fleet_key_path, settings.workload_key_file) if path.exists()]
    if there:
        raise ConfigError(
            f"this host is in a fleet already ({', '.join(map(str, there))}); pass --force to leave that one",
            code="would_overwrite",
        )


def write(settings: Settings, grant: Grant, labels: tuple[str, ...] = ()) -> tuple[Path, ...]:
    """Write keys, CA and config.yaml; returns what was written. Raises ConfigError.

    The configuration comes last: a host that it names a fleet in has everything else.
    """
    written = [settings.fleet_key_path]
    key_file.write(settings.fleet_key_path, [key.get_secret_value() for key in grant.fleet_keys])
    if grant.workload_keys:
        key_file.write(settings.workload_key_file, [key.get_secret_value() for key in grant.workload_keys])
        written.append(settings.workload_key_file)
    url = _checked_url(grant)
    if grant.ca:
        path = settings.home / CA_NAME
        _write_ca(path, grant.ca)
        url = with_ca(url, path)
        written.append(path)
    settings_file.change(settings.config_path, {"redis_url": url} | ({"labels": list(labels)} if labels else {}))
    return (*written, settings.config_path)


def with_ca(url: str, path: Path) -> str:
    """The URL with the CA that the server is checked against. Pure."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query)) | {"ssl_ca_certs": str(path)}
    return parts._replace(query=urlencode(query, safe="/")).geturl()


def _checked_url(grant: Grant) -> str:
    try:
        return settings_values.redis_url(grant.redis_url.get_secret_value())
    except ValueError as exc:
        raise ConfigError(f"the fleet's Redis URL cannot be used: {exc}") from None


def _write_ca(path: Path, text: str) -> None:
    try:
        atomic_file.write(path, text)
    except OSError as exc:
        raise ConfigError(f"{path} cannot be written: {exc.strerror}") from None
