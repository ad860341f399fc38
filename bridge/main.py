"""The bridge's program: `python -m bridge.main`. What it runs is `bridge.process.Bridge`."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys

from bridge.identity import Identity
from bridge.lease import LeaseLostError
from bridge.process import Bridge
from tasks import core_dumps, event_loop, logs
from tasks.errors import ConfigError
from tasks.logs import event
from tasks.settings import Settings, load_settings

log = logging.getLogger("pendra.bridge")

EXIT_REPLACED = 75  # EX_TEMPFAIL: started again, it waits for its turn
EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h: restarting does not help


def run(settings: Settings) -> int:
    """Configure logging and run a bridge until SIGTERM or SIGINT. Returns the exit code; 78: a person must help.

    Raises ConfigError when the settings cannot be used.
    """
    logs.configure(settings, "bridge")
    if settings.gpu_worker_private_key is None:
        raise ConfigError(
            "GPU_WORKER_PRIVATE_KEY is not set: the bridge cannot prove itself to the API. "
            "Copy the key from the console, or run `pendra setup`"
        )
    identity = Identity.from_base64(settings.gpu_worker_private_key.get_secret_value())
    return event_loop.run(_run(settings, identity))


async def _run(settings: Settings, identity: Identity) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    bridge = Bridge(settings, identity)
    gc.collect()
    gc.freeze()  # what was imported lives for ever: the collector need not look at it while tokens pass
    event(log, logging.INFO, "bridge.started", bridge_id=bridge.bridge_id, api=settings.app_server_ws_url)
    fatal = await bridge.run(stop)
    if fatal is not None:
        event(log, logging.CRITICAL, "bridge.fatal", why=fatal.words)
        print(f"pendra bridge: {fatal.words}", file=sys.stderr)  # noqa: T201  # for the person at the terminal
        return EXIT_CONFIG
    event(log, logging.INFO, "bridge.stopped")
    return 0


def main() -> int:
    core_dumps.forbid()
    try:
        return run(load_settings())
    except ConfigError as exc:
        print(f"pendra bridge: {exc.message}", file=sys.stderr)  # noqa: T201  # logging may not work yet
        return EXIT_CONFIG
    except LeaseLostError as exc:
        event(log, logging.CRITICAL, "bridge.replaced", why=exc.message)
        return EXIT_REPLACED


if __name__ == "__main__":
    sys.exit(main())
