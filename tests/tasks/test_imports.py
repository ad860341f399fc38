"""Who may import whom (docs/architecture.md), read from the source, and what a bare import really loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ("bridge", "tasks", "worker", "ops")
CONTRACT = ("blobs", "contract", "errors", "events", "figures", "frozen", "keys", "scripts", "sealing")
TASK_MODULES = ("infer", "install")  # may load the worker, when a task runs
HEAVY = ("celery", "kombu", "llama_cpp", "redis", "websockets", "httpx")


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """(module, at import time) of every import that runs; those for type checkers only do not."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in tree.body:
        yield from _imports(node, at_import=True)


def _imports(node: ast.AST, *, at_import: bool) -> Iterator[tuple[str, bool]]:
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        return
    if isinstance(node, ast.Import):
        yield from ((alias.name, at_import) for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module, at_import
        yield from ((f"{node.module}.{alias.name}", at_import) for alias in node.names)
    lazy = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    for child in ast.iter_child_nodes(node):
        yield from _imports(child, at_import=at_import and not lazy)


def package_of(module: str) -> str:
    return module.partition(".")[0]


def files_of(name: str) -> list[Path]:
    """Of a contract module, or of all in it if it is a package."""
    alone = ROOT / "tasks" / f"{name}.py"
    found = [alone] if alone.exists() else sorted((ROOT / "tasks" / name).rglob("*.py"))
    assert found
    return found


@pytest.mark.parametrize("name", CONTRACT)
def test_contract_modules_import_only_each_other_and_nothing_heavy(name):
    allowed = {"tasks", *(f"tasks.{other}" for other in CONTRACT)}
    for module, _ in (one for path in files_of(name) for one in imports(path)):
        assert package_of(module) not in HEAVY
        if package_of(module) in OURS:
            assert any(module == one or module.startswith(f"{one}.") for one in allowed - {"tasks"}) or (
                module in allowed
            ), f"tasks/{name} imports {module}"


@pytest.mark.parametrize(
    ("package", "never"),
    [("bridge", ("worker", "ops", "llama_cpp")), ("worker", ("bridge", "ops")), ("tasks", ("bridge", "ops"))],
)
def test_packages_depend_in_one_direction(package, never):
    for path in modules(package):
        for module, _ in imports(path):
            assert package_of(module) not in never, f"{path.relative_to(ROOT)} imports {module}"


def test_only_task_modules_import_the_worker_and_only_when_they_run():
    for path in modules("tasks"):
        for module, at_import in imports(path):
            if package_of(module) == "worker":
                assert path.stem in TASK_MODULES, f"{path.name} imports {module}"
                assert not at_import, f"{path.name} imports {module} at import time"


@pytest.mark.parametrize("module", [*(f"tasks.{name}" for name in CONTRACT), "bridge.protocol"])
def test_a_pure_module_loads_nothing_heavy(module):
    heavy = "sorted(set(sys.modules) & {'celery', 'kombu', 'llama_cpp', 'websockets', 'worker'})"
    code = f"import sys, {module}; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_app_is_made_at_first_use_and_does_not_load_the_worker(tmp_path):
    code = (
        "import sys, tasks; before = 'celery' in sys.modules; app = tasks.app; app.loader.import_default_modules();"
        "print(before, type(app).__name__, 'tasks.infer' in app.tasks, 'worker' in sys.modules)"
    )
    env = {"PENDRA_REDIS_URL": "redis://127.0.0.1:1/0", "PENDRA_HOME": str(tmp_path), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["False", "PendraCelery", "True", "False"], done.stderr


def test_the_lazy_attribute_is_the_only_one():
    import tasks

    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        tasks.nonsense  # noqa: B018  # the access is the test
