"""The `pendra` command. Its parts load when they run, so that `pendra --help` answers at once.

Every failure a person can cause ends in one line on stderr and an exit status: 2 for a wrong setting or usage, 1 for
anything else with a code, 130 after Ctrl-C. A traceback is a bug of ours.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import sys
from dataclasses import dataclass
from typing import Any

import click

DISTRIBUTION = "pendra-worker"
_INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a command lives (`module:attribute`) and what it does, so that listing it need not import it."""

    target: str
    about: str

    @property
    def module(self) -> str:
        return self.target.partition(":")[0]

    def load(self) -> click.Command:
        command = getattr(importlib.import_module(self.module), self.target.partition(":")[2])
        if not isinstance(command, click.Command):
            raise TypeError(f"{self.target} is not a click command")
        return command


COMMANDS: dict[str, Entry] = {
    "setup": Entry(
        "ops.commands.setup:command", "Ask for the key, name, models folder and backends; write them down."
    ),
    "config": Entry("ops.commands.config:command", "Show and change settings."),
    "models": Entry("ops.commands.models:command", "List, install and remove models."),
    "keys": Entry("ops.commands.keys:command", "Make, list and revoke API keys of the local API."),
    "identities": Entry("ops.commands.identities:command", "Say which bridges may connect to the local API."),
    "audit": Entry("ops.commands.audit:command", "Check the audit logs of this host's bridges."),
    "up": Entry("ops.commands.up:command", "Run the whole stack on this machine."),
    "demo": Entry("ops.commands.demo:command", "Start the stack, stream one answer, stop."),
    "status": Entry("ops.commands.status:command", "Show what runs on this machine."),
    "drain": Entry("ops.commands.drain:command", "Take a worker out of service; its requests go on elsewhere."),
    "top": Entry("ops.commands.top:command", "Watch workers, slots, models and the queue, live."),
    "jobs": Entry("ops.commands.jobs:command", "Show the open requests and where they run."),
    "doctor": Entry("ops.commands.doctor:command", "Say what is wrong with this host, and what helps."),
    "backends": Entry("ops.commands.backends:command", "Show the Ollama, vLLM, LM Studio and Speaches found."),
    "fleet": Entry("ops.commands.fleet:command", "Make a token that lets another host join this host's fleet."),
    "join": Entry("ops.commands.join:command", "Make this host one of a fleet."),
    "worker": Entry("ops.commands.worker:command", "Serve models on this host's devices."),
    "bridge": Entry("ops.commands.bridge:command", "Connect a fleet to the Pendra API."),
    "controlplane": Entry("ops.commands.controlplane:command", "Run a local stand-in for the Pendra API."),
    "flower": Entry("ops.commands.flower:command", "Watch the fleet in Flower."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are named. Those that are not part of this build do not show."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return [name for name, entry in COMMANDS.items() if importlib.util.find_spec(entry.module)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        from ops.platforms import refuse

        refuse(cmd_name)
        return COMMANDS[cmd_name].load() if cmd_name in self.list_commands(ctx) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args[0] not in known and not args[0].startswith("-"):
            meant = difflib.get_close_matches(args[0], known, n=1)
            hint = f"did you mean `pendra {meant[0]}`?" if meant else f"there are {', '.join(known)}"
            ctx.fail(f"there is no command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].about) for name in self.list_commands(ctx)])


def _show_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:  # noqa: FBT001  # click's
    if wanted and not ctx.resilient_parsing:
        click.echo(f"pendra {version()}")
        ctx.exit()


def version() -> str:
    from importlib import metadata

    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "(not installed: runs from a source tree)"


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show it.")
def cli() -> None:
    """Serve open-weight models on your own machines behind the Pendra API."""


def run(args: list[str] | None = None) -> int:
    """Run a command line and return its exit status, with every failure in words on stderr."""
    from tasks.errors import ConfigError, PendraError

    try:
        done: Any = cli.main(args, prog_name="pendra", standalone_mode=False)
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except click.Abort as exc:
        return _aborted(exc)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except PendraError as exc:
        click.echo(f"pendra: error: {exc.message} [{exc.code}]", err=True)
        return 2 if isinstance(exc, ConfigError) else 1
    except BrokenPipeError:  # `pendra models | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return done if isinstance(done, int) else 0


def _aborted(exc: click.Abort) -> int:
    """Ctrl-C, or the end of what a prompt could read."""
    if isinstance(exc.__cause__ or exc.__context__, EOFError):
        click.echo("pendra: error: nobody answers the question; pass the answer as an option [no_answer]", err=True)
        return 1
    return _INTERRUPTED


def main() -> None:
    from tasks import core_dumps

    core_dumps.forbid()
    sys.exit(run())


if __name__ == "__main__":
    main()
