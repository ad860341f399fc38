"""What benchmarks measure: our whole stack, and llama-server. Each runs while its context is open."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.client import Target
from tests.acceptance.stack import Stack, eventually, free_port, running
from worker.store.catalogue import Catalogue

ROOT = Path(__file__).resolve().parent.parent
SMOLLM = ROOT / ".cache/models/SmolLM2-135M-Instruct.Q4_1.gguf"


@dataclass(frozen=True)
class Size:
    """`ctx`: tokens of each slot."""

    slots: int
    ctx: int
    threads: int


@contextlib.contextmanager
def stack(model: Path, size: Size) -> Iterator[Target]:
    """`pendra up` with one worker that has this model in memory."""
    model_id = id_in_store(model)
    os.environ["PENDRA_THREADS"] = str(size.threads)
    os.environ["PENDRA_CONTEXT_LENGTH"] = str(size.ctx)
    keep = ("PENDRA_THREADS", "PENDRA_CONTEXT_LENGTH")
    with tempfile.TemporaryDirectory() as home:
        args = ("--workers", "1", "--slots", str(size.slots))
        with running(Stack(Path(home), model.absolute().parent, args=args, model=model_id, keep_env=keep)) as up:
            yield Target(f"{up.url}/v1", up.key, model_id)


def id_in_store(model: Path) -> str:
    """What the store that the file's folder is calls it."""
    entries = Catalogue(model.absolute().parent).entries()
    found = next((entry for entry in entries if entry.path == model.absolute()), None)
    if found is None or found.problem is not None:
        raise SystemExit(str(found.problem) if found else f"{model} is no model; name a GGUF file")
    return found.id


@contextlib.contextmanager
def llama_server(binary: str, model: Path, size: Size, *more: str) -> Iterator[Target]:
    port = free_port()
    argv = [binary, "-m", str(model), "--port", str(port), "-np", str(size.slots), "-c", str(size.slots * size.ctx)]
    argv += ["-t", str(size.threads), "-fa", "on", "--no-webui", *more]
    with _process(argv), httpx.Client() as http:
        url = f"http://127.0.0.1:{port}"

        def ready() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                return http.get(f"{url}/health", timeout=2).status_code == 200
            return False

        if not eventually(ready, 60, 0.2):
            raise SystemExit("llama-server did not become ready")
        yield Target(f"{url}/v1", "none", "any")


@contextlib.contextmanager
def _process(argv: Sequence[str]) -> Iterator[None]:
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)
