"""A local stand-in for the Pendra API: its HTTP surface for apps, its WebSocket for bridges, its keys and metering.

Not loaded from here: the server (`ops.controlplane.server`). What other parts need at start is light.
"""

from ops.controlplane.keystore import ensure_api_key
from ops.controlplane.registry import register_worker

__all__ = ["ensure_api_key", "register_worker"]
