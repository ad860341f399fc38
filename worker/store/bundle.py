"""Models on a disk or tape for sites without a network: export, and import with every hash checked. Blocking."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks import atomic_file
from tasks.errors import NotFoundError
from worker.store import room, sidecar
from worker.store.catalogue import Catalogue, Entry
from worker.store.errors import ChecksumError, SourceError
from worker.store.installer import install
from worker.store.partial import hash_file
from worker.store.planner import InstallSpec, Stage
from worker.store.run import Progress
from worker.store.sidecar import Part, Sidecar
from worker.store.upkeep import parts_of

_TARS = (".tar", ".tgz", ".tar.gz")


def export(model_ids: tuple[str, ...], store: Path, to: Path, progress: Progress) -> list[Path]:
    """Write the models' files and sidecars into a folder, or into a tar if `to` is named like one; what was written.

    A file that was dropped in by hand is hashed now. Raises NotFoundError, ChecksumError for one that has changed.
    """
    catalogue = Catalogue(store)
    files: list[Path] = []
    with tempfile.TemporaryDirectory() as scratch:
        for model_id in model_ids:
            entry = catalogue.find(model_id)
            if entry is None:
                raise NotFoundError(f"{model_id} is not installed in {store}", code="model_not_installed")
            files += [*parts_of(entry.path), _sealed(entry, Path(scratch), progress)]
        _write(files, to)
    return [to / file.name for file in files] if not _is_tar(to) else [to]


def bring_in(origin: Path, store: Path, progress: Progress) -> list[Sidecar]:
    """Install everything an export holds; the sidecars of what is there then. Nothing is taken on trust.

    Raises SourceError for what is no export, ChecksumError for a file that is not what its sidecar says.
    """
    with _opened(origin, store) as folder:
        found = sorted(folder.glob(f"*.gguf{sidecar.SUFFIX}"))
        if not found:
            raise SourceError(f"{origin} holds no model with its sidecar; make it with `pendra models export`")
        return [_bring(folder / path.name.removesuffix(sidecar.SUFFIX), store, progress) for path in found]


def _bring(gguf: Path, store: Path, progress: Progress) -> Sidecar:
    said = sidecar.read(gguf)
    if said is None:
        raise SourceError(f"{gguf.name}{sidecar.SUFFIX} is not a readable sidecar")
    for part in said.parts:
        _check(gguf.with_name(part.name), part.sha256, progress)
    spec = InstallSpec(
        id=said.id,
        source=gguf.absolute().as_uri(),
        sha256="" if said.parts else said.sha256,
        size=said.size,
        purpose=said.purpose,
        licence=said.licence,
    )
    done = install(spec, store, progress)
    made = done.sidecar.model_copy(update={"source": said.source, "revision": said.revision})
    atomic_file.write(sidecar.path_of(done.path), sidecar.dump(made), mode=0o644)
    return made


def _check(path: Path, sha256: str, progress: Progress) -> None:
    try:
        size = path.stat().st_size
        found = hash_file(path, lambda done: progress(Stage.CHECKING, done, size))
    except OSError as exc:
        raise SourceError(f"{path.name} cannot be read: {exc.strerror}") from None
    if found != sha256:
        raise ChecksumError(f"{path.name} has the SHA-256 {found}, its sidecar says {sha256}")


def _sealed(entry: Entry, scratch: Path, progress: Progress) -> Path:
    """A sidecar that says what is really there."""
    known = sidecar.read(entry.path)
    parts = []
    for path in parts_of(entry.path):
        size = path.stat().st_size
        digest = hash_file(path, lambda done, size=size: progress(Stage.CHECKING, done, size))  # type: ignore[misc]
        parts.append(Part(name=path.name, sha256=digest, size=size))
    if known is not None:
        said = known.parts or (Part(name=entry.path.name, sha256=known.sha256, size=known.size),)
        if tuple(parts) != said:
            raise ChecksumError(f"{entry.id} is not what was installed any more; see `pendra models verify`")
    made = known or Sidecar(
        id=entry.id,
        purpose=entry.purpose,
        source="",
        sha256=parts[0].sha256,
        size=parts[0].size,
        installed_at=round(time.time(), 3),
        parts=tuple(parts) if len(parts) > 1 else (),
    )
    path = scratch / sidecar.path_of(entry.path).name
    path.write_text(sidecar.dump(made), encoding="utf-8")
    return path


def _write(files: list[Path], to: Path) -> None:
    if _is_tar(to):
        to.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(to, "w:gz" if to.suffix in {".tgz", ".gz"} else "w") as tar:
            for file in files:
                tar.add(file.resolve(), arcname=file.name)
        return
    to.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copyfile(file, to / file.name)


@contextmanager
def _opened(origin: Path, store: Path) -> Iterator[Path]:
    """The folder of an export; a tar is unpacked beside the store first."""
    if origin.is_dir():
        yield origin
        return
    try:
        tar = tarfile.open(origin)  # noqa: SIM115  # closed below, opened here for its errors
    except (OSError, tarfile.TarError) as exc:
        raise SourceError(f"{origin} is neither a folder nor a tar that can be read ({type(exc).__name__})") from None
    store.mkdir(parents=True, exist_ok=True)
    with tar, tempfile.TemporaryDirectory(dir=store, prefix=".import-") as scratch:
        folder = Path(scratch)
        members = [member for member in tar.getmembers() if _is_ours(member)]
        room.check(store, 2 * sum(member.size for member in members))
        tar.extractall(folder, members=members, filter="data")
        yield folder


def _is_ours(member: tarfile.TarInfo) -> bool:
    """Plain files at the top, models and sidecars only: a tar may hold anything."""
    plain = member.isfile() and "/" not in member.name and not member.name.startswith(".")
    return plain and member.name.endswith((".gguf", f".gguf{sidecar.SUFFIX}"))


def _is_tar(path: Path) -> bool:
    return path.name.endswith(_TARS)
