"""`pendra setup`: the wizard that writes `config.yaml` and the fleet key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ops.setup import Question
    from tasks.settings import Settings


@click.command("setup")
@click.option("--key", metavar="KEY", help="Worker key from the console; better --key-file: arguments show in `ps`.")
@click.option("--key-file", type=click.File("r"), help="File that holds the worker key; - = standard input.")
@click.option("--name", metavar="TEXT", help="Name of this worker, shown to people.")
@click.option("--models-dir", metavar="DIR", help="Folder for models.")
@click.option("--ollama", metavar="URL|off|''", help="Ollama endpoint; empty = look for it.")
@click.option("--vllm", metavar="URL|off|''", help="vLLM endpoint; empty = look for it.")
@click.option("--lmstudio", metavar="URL|off|''", help="LM Studio endpoint; empty = look for it.")
@click.option("--speaches", metavar="URL|off|''", help="Speaches endpoint; empty = look for it.")
@click.option("--redis-url", metavar="URL", help="Redis of the fleet.")
@click.option("--api-url", metavar="URL", help="Pendra API to dial.")
@click.option("--build", metavar="NAME", help="llama.cpp build: cuda, rocm, vulkan, metal, cpu.")
@click.option("--non-interactive", is_flag=True, help="Ask nothing; what is not given stays as it is.")
@click.option("--force", is_flag=True, help="Replace other values in the file without asking.")
def command(*, key_file: Any, build: str | None, non_interactive: bool, force: bool, **flags: str | None) -> None:
    """Ask for the worker key, name, models folder and backends, and write them to the file (mode 0600).

    Every question is also an option. Makes the fleet key when there is none.
    """
    from ops.setup import next_steps, plan
    from tasks import settings_file
    from tasks.settings import load_settings
    from tasks.settings_errors import shown

    advice = _build_advice(build)
    if key_file is not None:
        flags["key"] = key_file.read().strip()
    given = _given(flags)
    before = load_settings()
    path = before.config_path
    in_file = _in_file(path, given)
    _agree_to_replace(plan(in_file, given).replaced, path, force=force, ask=not non_interactive)
    answers = given if non_interactive else given | _ask(before, skip=given)
    settings_file.change(path, plan(in_file, answers).changes)
    after = load_settings()
    click.echo(f"wrote {path}" + (f": {', '.join(answers)}" if answers else " (nothing new)"))
    _make_fleet_key(after)
    _make_workload_key(after)
    if advice:
        click.echo(advice)
    click.echo(
        next_steps(
            has_key=after.gpu_worker_private_key is not None,
            fleet_key_path=str(after.fleet_key_path),
            redis_url=shown("redis_url", after.redis_url).strip('"'),
        )
    )


def _build_advice(build: str | None) -> str:
    """How to install the llama.cpp that fits, when the one here does not use what the machine has; else ""."""
    import sys

    from ops.setup import build_advice
    from ops.wheels import Build, this_machine
    from worker.devices import llama_uses_gpus

    if build is not None and build not in set(Build):
        raise click.UsageError(f"--build {build}: {', '.join(Build)} are allowed")
    wanted = Build(build) if build else None
    return build_advice(this_machine(), sys.executable, wanted=wanted, uses_gpu=llama_uses_gpus)


def _given(flags: Mapping[str, str | None]) -> dict[str, Any]:
    """Options in checked form, by setting. Raises one ConfigError for all that are wrong."""
    from ops.setup import QUESTIONS
    from tasks.settings_edit import checked

    return checked({q.name: flags[q.flag] for q in QUESTIONS if flags[q.flag] is not None})


def _in_file(path: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """What the file says now about the settings that were given, in checked form."""
    from tasks import settings_edit, settings_file

    return settings_edit.checked({n: v for n, v in settings_file.read(path).items() if n in given and v is not None})


def _agree_to_replace(names: tuple[str, ...], path: Path, *, force: bool, ask: bool) -> None:
    from tasks.errors import ConfigError

    if not names or force:
        return
    listed = ", ".join(names)
    if not ask:
        raise ConfigError(f"{path} already has another {listed}; pass --force to replace it", code="would_overwrite")
    click.confirm(f"{path} already has another {listed}. Replace?", abort=True)


def _ask(current: Settings, skip: Mapping[str, Any]) -> dict[str, Any]:
    """The answers that differ from what holds now."""
    from ops.setup import QUESTIONS

    click.echo("Enter keeps what stands in brackets.")
    answers: dict[str, Any] = {}
    for question in QUESTIONS:
        if question.name not in skip:
            answers |= _ask_one(question, getattr(current, question.name))
    return answers


def _ask_one(question: Question, current: Any) -> dict[str, Any]:
    from tasks.errors import ConfigError
    from tasks.settings_edit import checked, plain
    from tasks.settings_errors import shown as masked

    if question.secret and current and not click.confirm("A worker key is set. Replace it?", default=False):
        return {}
    shown = "" if question.secret else masked(question.name, plain(current)).strip('"')
    while True:
        text = click.prompt(question.text, default=shown, hide_input=question.secret, show_default=bool(shown))
        if text == shown:
            return {}
        try:
            return checked({question.name: text})
        except ConfigError as exc:
            click.echo(exc.message, err=True)


def _make_fleet_key(settings: Settings) -> None:
    from tasks import fleet_key_file

    if settings.fleet_key is not None:
        click.echo("the fleet key comes from the settings")
    elif fleet_key_file.ensure(settings.fleet_key_path):
        click.echo(f"made the fleet key {settings.fleet_key_path}")
    else:
        fleet_key_file.read(settings.fleet_key_path)
        click.echo(f"kept the fleet key {settings.fleet_key_path}")


def _make_workload_key(settings: Settings) -> None:
    from worker.private import keys

    made = keys.ensure(settings.workload_key_file)
    keys.load(settings.workload_key_file)
    click.echo(f"{'made' if made else 'kept'} the private-inference key {settings.workload_key_file}")
