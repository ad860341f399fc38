"""The curated models: what can be installed, from where, and the hash the file must have.

The catalogue we ship is data in `ops/controlplane/catalogue.json`, which the control plane also serves; a site may
serve its own (PENDRA_CATALOGUE_URL). An entry without hash takes that of the hub's LFS record at install.
"""

from __future__ import annotations

import re
import time
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import url2pathname

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.contract import InstallRequest
from tasks.errors import NotFoundError
from worker.store.errors import DownloadError, SourceError, UnsupportedSource
from worker.store.planner import InstallSpec
from worker.store.sources import has_password, public

Capability = Literal["chat", "embedding", "rerank", "image", "transcription"]
PENDRA = "pendra"
_OURS = frozenset({PENDRA, "both"})
_MOST_BYTES = 16 << 20
_KEEP_S = 60.0
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}")


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class Variant(_Entry):
    """One form of a model. `size` in bytes, where it is a known fact; `gguf_url` as `worker.store` understands it.

    `backends`: what other backends call it, as `{"ollama": "llama3.2:1b"}`.
    """

    quantisation: str
    size: int | None = Field(default=None, gt=0)
    gguf_url: str | None = None
    gguf_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    mirrors: tuple[str, ...] = ()
    backends: dict[str, str] = {}


class CatalogueModel(_Entry):
    """`backend` is pendra, ollama, speaches, … or both (pendra and Ollama). The first variant is the default."""

    id: str = Field(min_length=1)
    name: str
    backend: str
    capability: Capability
    parameter_size: str
    context_length: int | None = Field(default=None, gt=0)
    licence: str
    variants: tuple[Variant, ...] = Field(min_length=1)

    def variant(self, quantisation: str | None = None) -> Variant:
        """By its quantisation, any case; None = the default one. Raises NotFoundError that lists them."""
        wanted = (quantisation or self.variants[0].quantisation).lower()
        found = next((one for one in self.variants if one.quantisation.lower() == wanted), None)
        if found is None:
            have = ", ".join(one.quantisation for one in self.variants)
            raise NotFoundError(f"{self.id} has no variant {quantisation}; it has {have}")
        return found


class Catalogue(_Entry):
    data: tuple[CatalogueModel, ...]

    def find(self, model_id: str) -> CatalogueModel | None:
        return next((model for model in self.data if model.id == model_id), None)

    def __contains__(self, model_id: object) -> bool:
        return isinstance(model_id, str) and self.find(model_id) is not None


@cache
def load() -> Catalogue:
    """The catalogue shipped with this package."""
    text = resources.files("ops").joinpath("controlplane/catalogue.json").read_text("utf-8")  # data, not code
    return Catalogue.model_validate_json(text)


def load_from(url: str) -> Catalogue:
    """The catalogue at a URL ("" = the shipped one), kept for a minute. Blocking. Raises DownloadError."""
    return _read(url, int(time.monotonic() / _KEEP_S)) if url else load()


def load_known(url: str) -> Catalogue:
    """As `load_from`, or ours: for what is installed already a catalogue that cannot be read is no obstacle."""
    try:
        return load_from(url)
    except DownloadError:
        return load()


def spec_of(model: CatalogueModel, quantisation: str | None = None) -> InstallSpec:
    """What to install for an entry. Raises NotFoundError, UnsupportedSource for what only other backends run."""
    variant = model.variant(quantisation)
    if variant.gguf_url is None:
        raise UnsupportedSource(f"{model.id} runs on {model.backend} only, and has no file for the built-in engine")
    return InstallSpec(
        id=model.id,
        source=variant.gguf_url,
        sha256=variant.gguf_sha256 or "",
        size=variant.size,
        purpose=model.capability,
        licence=model.licence,
        mirrors=variant.mirrors,
    )


def spec_for(request: InstallRequest, catalogue: Catalogue) -> InstallSpec:
    """What a request means: a catalogue entry, or its own source. Raises NotFoundError, SourceError."""
    if not _ID.fullmatch(request.model):
        raise SourceError("a model id is up to 200 letters, digits and any of . _ : / -")
    if any(has_password(url) for url in (request.source or "", *request.mirrors)):
        raise SourceError("a source must not hold a password: tasks are visible; put it into ~/.netrc of the host")
    model = catalogue.find(request.model)
    if request.source is not None:
        return _own(request, model)
    if model is None:
        ids = ", ".join(entry.id for entry in catalogue.data)
        raise NotFoundError(f"the catalogue has no model {request.model}; it has {ids}")
    return spec_of(model, request.variant)


def backend_of(model_id: str, backend: str | None, catalogue: Catalogue) -> str:
    """Whose model it is: the one that was named, else the only one that can run it, else ours. Pure."""
    if backend:
        return backend
    entry = catalogue.find(model_id)
    return PENDRA if entry is None or entry.backend in _OURS else entry.backend


def name_at(backend: str, request: InstallRequest, catalogue: Catalogue) -> str:
    """What another backend calls the model: as was said, as the catalogue says, else its id. Raises NotFoundError."""
    entry = catalogue.find(request.model)
    if request.source or entry is None:
        return request.source or request.model
    return entry.variant(request.variant).backends.get(backend, request.model)


def _own(request: InstallRequest, model: CatalogueModel | None) -> InstallSpec:
    """A source of the asker's; what is not said comes from the catalogue's entry of that id, if there is one."""
    return InstallSpec(
        id=request.model,
        source=request.source or "",
        sha256=(request.sha256 or "").lower(),
        size=request.size,
        purpose=request.purpose or (model.capability if model else "chat"),
        licence=request.licence or (model.licence if model else ""),
        mirrors=request.mirrors,
    )


@cache
def _read(url: str, _minute: int) -> Catalogue:
    try:
        text = _text(url)
        return Catalogue.model_validate_json(text)
    except (OSError, httpx.HTTPError, httpx.InvalidURL) as exc:
        raise DownloadError(
            f"the catalogue at {public(url)} cannot be read: {type(exc).__name__}", retryable=True
        ) from None
    except ValidationError as exc:
        where = ".".join(str(step) for step in exc.errors()[0]["loc"])
        raise DownloadError(f"the catalogue at {public(url)} is not one: see {where or 'its start'}") from None


def _text(url: str) -> bytes:
    if url.startswith("file:"):
        return Path(url2pathname(urlsplit(url).path)).read_bytes()
    with httpx.stream("GET", url, follow_redirects=True, timeout=20.0) as response:
        response.raise_for_status()
        text = b""
        for block in response.iter_bytes():
            text += block
            if len(text) > _MOST_BYTES:
                raise httpx.DecodingError("larger than a catalogue can be")
        return text
