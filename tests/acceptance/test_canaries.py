"""Words sent down every path, and then looked for wherever an operator, an admin or a thief might look.

Each look first finds a word that was put there for it: a look that cannot find anything shows nothing.
"""

from __future__ import annotations

import base64
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import httpx
import pytest

from tests.acceptance.canaries import PLANTED, Canaries, found, shapes
from tests.acceptance.leaks import (
    Evidence,
    Monitor,
    ask_through_flower,
    celery_sees,
    dump_settings,
    dumped,
    files,
    flower,
    flower_shows,
    in_memory,
    is_redis_back,
    plant_in_redis,
    process_listing,
    processes,
)
from tests.acceptance.site import Site, running_site
from tests.acceptance.stack import MODEL, eventually, free_port
from tests.acceptance.traffic import RERANKER, Traffic
from tests.fakes.tiny_bert import write_tiny_bert

KEY_FILES = ("api-key", "fleet-key", "workload-key", "bridge-key")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc")


@dataclass
class Findings:
    """What was sent, and what each look saw of it. `looks` by name."""

    canaries: Canaries
    looks: dict[str, Evidence] = field(default_factory=dict)
    memory: dict[str, set[bytes]] = field(default_factory=dict)
    core_dumps: dict[str, tuple[str, int]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def findings(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Findings]:
    home, tmp = tmp_path_factory.mktemp("canaries"), tmp_path_factory.mktemp("tmp")
    store = tmp_path_factory.mktemp("store")
    for path in models_dir.glob("*SmolLM2*"):
        shutil.copy2(path, store / path.name, follow_symlinks=False)
    write_tiny_bert(store / f"{RERANKER}.gguf", pooling=gguf.PoolingType.RANK)
    metrics = free_port()
    extra = {"PENDRA_METRICS_PORT": str(metrics), "TMPDIR": str(tmp), "PENDRA_LOG_LEVEL": "DEBUG"}
    with running_site(home, store, **extra) as site:
        yield look_everywhere(site, home, tmp, metrics)


def look_everywhere(site: Site, home: Path, tmp: Path, metrics: int) -> Findings:
    stack, found_out = site.stack, Findings(Canaries())
    for name in KEY_FILES:
        found_out.canaries.keep(name, (home / name).read_bytes().split()[0])
    assert stack.process is not None
    root, url, looks = stack.process.pid, stack.status_url(), found_out.looks
    traffic = Traffic(site, found_out.canaries, tmp.parent)
    with flower(stack) as watching:
        monitor = Monitor(url)
        for send in (traffic.text, traffic.shapes, traffic.wrong, traffic.media, traffic.private):
            send()

        def at_work() -> None:
            looked_for = ("sealed", "failover", "workload-key")
            words = [word for name, word in found_out.canaries.all.items() if name.startswith(looked_for)]
            for role in ("bridge", "controlplane"):  # the first look: the streams have to be under way
                found_out.memory[role] = in_memory(stack.processes(role)[0]["pid"], words)
            looks["redis"] = dumped(url)
            looks["celery"] = celery_sees(url)
            looks["processes"] = processes(root)
            os.kill(stack.processes("worker")[0]["pid"], signal.SIGKILL)

        traffic.long_streams(at_work)
        plant_in_redis(url, PLANTED)
        host = stack.status()["node"]
        ask_through_flower(watching, f"install.{host}", PLANTED)
        looks["flower"] = flower_shows(watching)
        looks["redis"] += dumped(url)
        looks["monitor"] = [("MONITOR", monitor.stop())]
        looks["metrics"] = [("/metrics", httpx.get(f"http://127.0.0.1:{metrics}/metrics", timeout=20).content)]
        looks["metrics"] += [
            (path, site.api.get(path).content) for path in ("/healthz", "/v1/models", "/v1/installs")
        ]
    restarted(site, traffic, found_out, url)
    found_out.core_dumps = dump_settings(root)
    traffic.close()
    plant_in_files(site, home, tmp)
    looks["files"] = files(home, tmp, but=[home / name for name in KEY_FILES])
    looks["processes"] += planted_listing()
    return found_out


def restarted(site: Site, traffic: Traffic, found_out: Findings, url: str) -> None:
    """Redis dies and comes back; what is asked then is looked for, too."""
    victim = site.stack.processes("redis")[0]["pid"]
    os.kill(victim, signal.SIGKILL)
    assert eventually(lambda: is_redis_back(url), 30)
    monitor = Monitor(url)
    say = found_out.canaries.asking("afterredis")
    asked = {"model": MODEL, "messages": say, "max_tokens": 4}
    assert eventually(lambda: traffic.post("chat/completions", **asked).is_success, 60, 0.3)
    found_out.looks["redis"] += dumped(url)
    found_out.looks["monitor"] += [("MONITOR", monitor.stop())]


def plant_in_files(site: Site, home: Path, tmp: Path) -> None:
    """In a log, in the database (whose newest rows are in its WAL), and in a temporary file."""
    with next((home / "logs").glob("*.log")).open("a") as log:
        log.write(f"{PLANTED}-log\n")
    made = site.api.post("/api/v1/admin/keys", json={"name": f"{PLANTED}-database"})
    assert made.status_code == 201, made.text
    (tmp / "left").write_text(f"{PLANTED}-temporary")


def planted_listing() -> Evidence:
    argv = [sys.executable, "-c", "input()", f"{PLANTED}-argument"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, env={"X": f"{PLANTED}-environment"}) as process:
        eventually(lambda: PLANTED.encode() in Path(f"/proc/{process.pid}/environ").read_bytes())  # exec(2) is done
        seen = process_listing(process.pid)
        process.kill()
    return seen


PROOF = {
    "monitor": (PLANTED.encode(), b"XADD", b"PUBLISH"),
    "redis": (PLANTED.encode() * 8, b"pendra:job:"),
    "flower": (PLANTED.encode(), b"tasks.infer"),
    "celery": (MODEL.encode(),),
    "processes": (f"{PLANTED}-argument".encode(), f"{PLANTED}-environment".encode(), b"worker.process"),
    "metrics": (b"pendra_", MODEL.encode()),
    "files": tuple(f"{PLANTED}-{where}".encode() for where in ("log", "database", "temporary")),
}
ALLOWED = {
    # the terminal shows a new user the first key; the bridge's own key reaches it as GPU_WORKER_PRIVATE_KEY
    "files": lambda row: row.startswith("api-key in ") and row.endswith("/up.out"),
    "processes": lambda row: row.startswith("bridge-key in ") and row.endswith("/environ"),
}


@pytest.mark.parametrize("look", PROOF)
def test_no_word_and_no_key_is_there(findings: Findings, look: str) -> None:
    evidence = findings.looks[look]
    everything = b"\n".join(data for _, data in evidence)
    assert [proof for proof in PROOF[look] if proof not in everything] == [], "the look sees what is there"
    allowed = ALLOWED.get(look, lambda _row: False)
    assert [row for row in found(findings.canaries.all, evidence) if not allowed(row)] == []


@pytest.mark.parametrize("role", ["bridge", "controlplane"])
def test_what_is_sealed_is_in_no_memory_but_the_workers(findings: Findings, role: str) -> None:
    """Looked at while a plain and a sealed stream were under way: of the plain one the words are there."""
    all_words, seen = findings.canaries.all, findings.memory[role]
    assert all_words["failover"] in seen, "the look sees what is there"
    sealed = {name: word for name, word in all_words.items() if name.startswith("sealed")}
    assert len(sealed) >= 9
    assert [name for name, word in sealed.items() if word in seen] == []
    assert all_words["workload-key"] not in seen


def test_every_path_was_taken(findings: Findings) -> None:
    assert len(findings.canaries.all) >= 35
    names = {place.rpartition("/")[2] for place, _ in findings.looks["files"]}
    assert {"controlplane.db", "controlplane.db-wal", "bridge.log", "up.out"} <= names
    assert any("audit" in place for place, _ in findings.looks["files"])


def test_a_crash_would_leave_no_memory_behind(findings: Findings) -> None:
    told = findings.core_dumps
    assert any("worker.process" in name for name in told)
    assert any("bridge.main" in name for name in told)
    assert {name: setting for name, setting in told.items() if setting != ("0", 0)} == {}


@pytest.mark.parametrize("around", ["{}", "ab{}", "a{}b", "prompt: {} please"])
def test_the_search_knows_the_shapes(around: str) -> None:
    canaries = {"x": b"zqsample1234abcd"}
    text = around.format("zqsample1234abcd").encode()
    for shape in (text, base64.b64encode(text), text.hex().encode(), text.decode().encode("utf-16-le")):
        assert found(canaries, [("here", b"{." + shape)])
    assert found(canaries, [("here", b"nothing of it")]) == []
    assert all(len(shape) > 12 for shape in shapes(canaries["x"]))
