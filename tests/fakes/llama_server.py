"""llama-cpp-python's own OpenAI server on a real model, with vLLM's `/version` before it.

Run as a process (`python -m tests.fakes.llama_server MODEL PORT`): it keeps a model and holds the GIL.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.fakes.waiting import until

ALIAS = "HuggingFaceTB/SmolLM2-135M-Instruct"
_START_S = 60.0


@contextmanager
def llama_server(model: Path, port: int = 0) -> Iterator[str]:
    """The server's URL. `port` 0: any free one."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "tests.fakes.llama_server", str(model), str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: process.poll() is not None or _answers(url), _START_S, 0.05)
        assert process.poll() is None, "llama_cpp.server did not start; are its extras installed (dev)?"
        yield url
    finally:
        process.terminate()
        process.wait(10)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/version", trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def main(model: str, port: int) -> None:
    import llama_cpp
    import uvicorn
    from llama_cpp.server.app import create_app
    from llama_cpp.server.settings import ModelSettings, ServerSettings

    settings = ModelSettings(model=model, model_alias=ALIAS, n_ctx=2048, n_threads=2, verbose=False)
    # by itself it ends a running stream when anybody lists its models
    quiet = ServerSettings(interrupt_requests=False)
    app = create_app(server_settings=quiet, model_settings=[settings])

    @app.get("/version")
    def version() -> dict[str, str]:
        return {"version": f"llama-cpp-python {llama_cpp.__version__}"}

    uvicorn.run(app, host="127.0.0.1", port=port, log_config=None)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
