"""Which models this host has: the GGUF files of the store, what they are for, and which of them are broken.

A file's id and purpose stand in its sidecar `<file>.meta.json`; a file dropped in by hand goes by its name. Only the
first file of a split model is listed. Broken files are listed with what is wrong with them.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from tasks.contract import Frozen, ModelInfo
from tasks.errors import PendraError, WorkerError
from tasks.model_options import LoraRef
from worker.store.gguf import GgufInfo, Pooling, Split, read_gguf, split_of
from worker.store.sidecar import path_of

_NOT_MODELS = {"adapter": "a LoRA adapter", "mmproj": "a projector for images", "imatrix": "an importance matrix"}


class Label(Frozen):
    """What of a sidecar matters for serving; sidecars written by hand may be short."""

    id: str | None = None
    purpose: str | None = None
    sha256: str | None = None
    licence: str | None = None
    lora: tuple[LoraRef, ...] = ()


NO_LABEL = Label()


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of the store. `problem`: why it cannot be served; `info` is there unless the header is unreadable."""

    id: str
    path: Path
    size_bytes: int
    purpose: str = "chat"
    label: Label = NO_LABEL
    info: GgufInfo | None = None
    problem: PendraError | None = None

    def advert(self, *, loaded: bool = False, context_length: int | None = None) -> ModelInfo:
        """What the fleet is told. `context_length`: what is really served, once loaded."""
        info = self.info
        return ModelInfo(
            id=self.id,
            capability=self.purpose,
            context_length=context_length or (info.context_length if info else None),
            parameter_size=info.parameter_size if info else None,
            quantisation=info.quantisation if info else None,
            family=info.architecture if info else None,
            size_bytes=self.size_bytes,
            sha256=self.label.sha256,
            loaded=loaded,
        )


@dataclass(frozen=True, slots=True)
class _Seen:
    """A file's header as it was read at one modification time and size."""

    stamp: tuple[int, int]
    info: GgufInfo | None
    problem: PendraError | None


class Catalogue:
    """Looks into the store each time it is asked; headers are read again only when a file changed. Thread-safe.

    `only`: the MODELS setting; other models are not listed. Blocking I/O (a `stat` a file).
    """

    def __init__(self, models_dir: Path, only: Collection[str] | None = None) -> None:
        self._dir = models_dir
        self._only = None if only is None else frozenset(only)
        self._lock = threading.Lock()
        self._seen: dict[Path, _Seen] = {}

    @property
    def folder(self) -> Path:
        return self._dir

    def entries(self) -> tuple[Entry, ...]:
        """All models, by path. Never raises: a store that cannot be read is empty."""
        with self._lock:
            found = list(self._scan())
            self._seen = {entry.path: self._seen[entry.path] for entry in found if entry.path in self._seen}
        chosen = (entry for entry in found if self._only is None or entry.id in self._only)
        return tuple(unique(chosen))

    def find(self, model_id: str) -> Entry | None:
        """The model of that id, which may be a broken one."""
        return next((entry for entry in self.entries() if entry.id == model_id), None)

    def _scan(self) -> Iterator[Entry]:
        for path in _files(self._dir):
            try:
                yield self._entry(path)
            except OSError:  # removed while we looked
                continue

    def _entry(self, path: Path) -> Entry:
        stat = path.stat()
        seen = self._seen.get(path)
        if seen is None or seen.stamp != (stat.st_mtime_ns, stat.st_size):
            seen = self._seen[path] = _look(path, (stat.st_mtime_ns, stat.st_size))
        label, problem = _label(path)
        size, missing = _parts(path, stat.st_size)
        return Entry(
            id=label.id or id_of(path),
            path=path,
            size_bytes=size,
            purpose=label.purpose or purpose_of(seen.info),
            label=label,
            info=seen.info,
            problem=seen.problem or missing or problem,
        )


def id_of(path: Path) -> str:
    """The id of a file that has no sidecar."""
    split = split_of(path)
    return (split.stem if split else path.stem).lower()


def purpose_of(info: GgufInfo | None) -> str:
    """What a model without sidecar is for: pooled models embed or rank, the others chat."""
    if info is None or info.pooling in (None, Pooling.NONE):
        return "chat"
    return "rerank" if info.pooling is Pooling.RANK else "embedding"


def unique(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Two files with one id: the first is served, the others are broken and say so."""
    owners: dict[str, Entry] = {}
    for entry in entries:
        owner = owners.setdefault(entry.id, entry)
        if owner is entry:
            yield entry
        else:
            why = f"{entry.path.name}: the id {entry.id} belongs to {owner.path.name} already; remove one of them"
            yield replace(entry, problem=entry.problem or WorkerError(why, code="model_load_failed"))


def _files(folder: Path) -> list[Path]:
    """The store's models: its own files and those one folder deeper, without later parts and hidden files."""
    try:
        paths = sorted([*folder.glob("*.gguf"), *folder.glob("*/*.gguf")])
    except OSError:
        return []
    return [path for path in paths if not _hidden(path, folder) and _is_first(path)]


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _is_first(path: Path) -> bool:
    split = split_of(path)
    return split is None or split.part == 1


def _look(path: Path, stamp: tuple[int, int]) -> _Seen:
    try:
        info = read_gguf(path)
    except PendraError as exc:
        return _Seen(stamp, None, exc)
    return _Seen(stamp, info, _not_a_model(path, info))


def _not_a_model(path: Path, info: GgufInfo) -> PendraError | None:
    what = _NOT_MODELS.get(info.kind) or ("a projector for images" if info.architecture == "clip" else None)
    if what is None:
        return None
    return WorkerError(f"{path.name} is {what}, not a model of its own", code="unsupported_architecture")


def _label(path: Path) -> tuple[Label, PendraError | None]:
    """The sidecar; an unreadable one is a problem, because the file may be for something else than we would guess."""
    try:
        return Label.model_validate_json(path_of(path).read_bytes()), None
    except FileNotFoundError:
        return NO_LABEL, None
    except (OSError, ValidationError):
        why = (
            f"{path_of(path).name} is not a readable sidecar; correct it, or remove it to serve the file by its name"
        )
        return NO_LABEL, WorkerError(why, code="model_load_failed")


def _parts(path: Path, size: int) -> tuple[int, PendraError | None]:
    """Size of all parts of a split model, and what is missing."""
    split = split_of(path)
    if split is None:
        return size, None
    files = [path.with_name(split.name(part)) for part in range(1, split.count + 1)]
    missing = [file.name for file in files if not file.exists()]
    total = sum(file.stat().st_size for file in files if file.name not in missing)
    return total, _missing(split, missing) if missing else None


def _missing(split: Split, names: list[str]) -> PendraError:
    why = f"{split.stem} comes in {split.count} files and {len(names)} are missing, the first is {names[0]}"
    return WorkerError(f"{why}; install the model again", code="missing_split")
