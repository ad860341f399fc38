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
from tests.acceptance.stack import MODEL, Stack, eventually, free_port, running

ROOT = Path(__file__).resolve().parent.parent
SMOLLM = ROOT / ".cache/models/SmolLM2-135M-Instruct.Q4_1.gguf"


@dataclass(frozen=True)
class Size:
    """`ctx`: tokens of each slot."""

    slots: int
    ctx: int
    threads: int


@contextlib.contextmanager
def stack(models_dir: Path, size: Size, model: str = MODEL) -> Iterator[Target]:
    """`pendra up` with one worker."""
    os.environ["PENDRA_THREADS"] = str(size.threads)
    os.environ["PENDRA_CONTEXT_LENGTH"] = str(size.ctx)
    keep = ("PENDRA_THREADS", "PENDRA_CONTEXT_LENGTH")
    with tempfile.TemporaryDirectory() as home:
        args = ("--workers", "1", "--slots", str(size.slots))
        with running(Stack(Path(home), models_dir, args=args, keep_env=keep)) as up:
            yield Target(f"{up.url}/v1", up.key, model)


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
