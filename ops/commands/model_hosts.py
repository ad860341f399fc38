"""Which hosts of the fleet a `pendra models` command is about."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ops.fleet_models import FleetModels

NODE = click.option("--node", metavar="N", help="On this host of the fleet, through its installer agent.")
ALL_NODES = click.option("--all", "all_nodes", is_flag=True, help="On all hosts of the fleet.")


def this_fleet() -> contextlib.closing[FleetModels]:
    """The fleet's agents: those of the stack that runs from this home, else those of PENDRA_REDIS_URL."""
    from ops.fleet_models import FleetModels
    from ops.node_state import read_state
    from tasks.settings import load_settings

    settings = load_settings()
    state = read_state(settings.home)
    return contextlib.closing(FleetModels(state.redis_url if state else settings.redis_url))
