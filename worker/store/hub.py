"""Files of a Hugging Face repository, or of a server that speaks as one (HF_ENDPOINT).

huggingface-hub answers what a file is (commit, size, the SHA-256 its LFS record has) and knows the user's token and
cache; the bytes then come from the commit's own URL through `http_source`, which can resume. Read at each call, so
that an agent that runs for months follows its environment: `HF_ENDPOINT`, `HF_TOKEN` (or the login's file).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from worker.store.errors import DownloadError
from worker.store.http_source import Remote
from worker.store.sources import HubSource, public

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

_TIMEOUT_S = 20.0
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TRUE = frozenset({"1", "on", "yes", "true"})
_DEFAULT = "https://huggingface.co"


@dataclass(frozen=True, slots=True)
class HubFile:
    """`sha256` is "" for a file without an LFS record; `cached`: where the user's cache has it (offline mode)."""

    commit: str
    size: int | None
    sha256: str
    cached: Path | None = None


def look(source: HubSource, path: str, revision: str) -> HubFile:
    """What the hub says of a file at a revision ("" = the default branch). Blocking.

    Offline (HF_HUB_OFFLINE) the user's cache answers. Raises DownloadError with what to do.
    """
    if offline():
        return _from_cache(source, path, revision)
    import huggingface_hub as hub  # noqa: PLC0415  # half a second, only for who needs it

    url = hub.hf_hub_url(source.repo, path, revision=revision or None, endpoint=endpoint())
    with _explained(source, path, revision):
        found = hub.get_hf_file_metadata(url, token=hub.get_token(), timeout=_TIMEOUT_S, endpoint=endpoint())
    return _file(found, source)


def remote(source: HubSource, path: str, commit: str, mirror: int) -> Remote:
    """Where the bytes of a file at a commit are. The token goes to the hub only, not on to where it redirects."""
    import huggingface_hub as hub  # noqa: PLC0415

    url = hub.hf_hub_url(source.repo, path, revision=commit, endpoint=endpoint())
    token = hub.get_token()
    headers = {"authorization": f"Bearer {token}"} if token else {}
    own = endpoint() != _DEFAULT
    return Remote(url, headers, secure=url.startswith("https://"), mirror=mirror, own=own)


def cached(source: HubSource, path: str, revision: str) -> Path | None:
    """The file in the user's own hub cache."""
    import huggingface_hub as hub  # noqa: PLC0415

    found = hub.try_to_load_from_cache(source.repo, path, revision=revision or None)
    return Path(found) if isinstance(found, str) else None


def endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or _DEFAULT).rstrip("/")


def offline() -> bool:
    said = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return said.lower() in _TRUE


def _from_cache(source: HubSource, path: str, revision: str) -> HubFile:
    found = cached(source, path, revision)
    if found is None:
        raise DownloadError(
            f"{source.repo}/{path} is not in this host's Hugging Face cache, and HF_HUB_OFFLINE forbids to fetch it"
        )
    blob = found.resolve()  # named by its LFS SHA-256
    sha256 = blob.name if _SHA256.fullmatch(blob.name) else ""
    return HubFile(_snapshot_of(found) or revision, blob.stat().st_size, sha256, cached=found)


def _snapshot_of(path: Path) -> str:
    parts = path.parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts else ""


def _file(found: HfFileMetadata, source: HubSource) -> HubFile:
    if not found.commit_hash:
        raise DownloadError(f"{public(endpoint())} does not answer as a model hub for {source.repo} (no commit)")
    sha256 = found.etag if found.etag and _SHA256.fullmatch(found.etag) else ""
    return HubFile(found.commit_hash, found.size, sha256)


@contextmanager
def _explained(source: HubSource, path: str, revision: str) -> Iterator[None]:
    """The library's errors in our words: theirs quote URLs and headers."""
    from huggingface_hub import errors  # noqa: PLC0415

    what = f"{source.repo}/{path}" + (f"@{revision}" if revision else "")
    where = public(endpoint())
    try:
        yield
    except errors.GatedRepoError:
        raise DownloadError(f"{source.repo} is gated: accept its terms at {where} and set HF_TOKEN here") from None
    except errors.RepositoryNotFoundError:
        raise DownloadError(
            f"{where} has no repository {source.repo}, or HF_TOKEN of this host may not see it"
        ) from None
    except errors.RevisionNotFoundError:
        raise DownloadError(f"{source.repo} has no revision {revision}") from None
    except errors.EntryNotFoundError:
        raise DownloadError(f"{source.repo} has no file {path}" + (f" at {revision}" if revision else "")) from None
    except errors.HfHubHTTPError as exc:
        status = getattr(exc.response, "status_code", None)
        again = status is None or status in {408, 425, 429, 500, 502, 503, 504}
        raise DownloadError(f"{where} answers {status or 'nothing'} for {what}", retryable=again) from None
    except errors.HFValidationError:
        raise DownloadError(f"{source.repo} is not the name of a repository") from None
    except Exception as exc:  # noqa: BLE001  # its HTTP client has changed before (requests, httpx, httpx2)
        raise DownloadError(f"{where} cannot be reached for {what}: {type(exc).__name__}", retryable=True) from None
