"""The images' recipes: linted, alike where they must be, and read right by the replay that runs them in a chroot."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ops.docker import dockerfile
from ops.docker.dockerfile import DockerfileError, Instruction

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "ops" / "docker").glob("*.Dockerfile"))
HADOLINT = Path(sys.executable).with_name("hadolint")


@pytest.fixture(params=RECIPES, ids=lambda path: path.stem)
def recipe(request: pytest.FixtureRequest) -> str:
    return str(request.param.read_text())


def test_both_are_here():
    assert [path.name for path in RECIPES] == ["cpu.Dockerfile", "cuda.Dockerfile"]


def test_hadolint_finds_nothing():
    linter = shutil.which("hadolint", path=str(HADOLINT.parent)) or shutil.which("hadolint")
    if linter is None:
        pytest.skip("no hadolint for this platform")
    done = subprocess.run([linter, *map(str, RECIPES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_bases_are_pinned_to_a_full_version(recipe):
    for stage in dockerfile.stages(recipe):
        assert re.search(r":\d+\.\d+\.\d+-", stage.base), stage.base


def test_what_is_built_with_stays_behind_and_no_secret_goes_in(recipe):
    build, final = dockerfile.stages(recipe)
    assert build.name == "build"
    assert any(step.option("from") == "build" for step in final.steps)
    assert not re.search(
        r"build-essential|cmake|-devel", " ".join([final.base, *(step.text for step in final.steps)])
    )
    names = {name for stage in (build, final) for step in stage.steps for name in dockerfile.assignments(step.text)}
    assert not [name for name in names if re.search("KEY|PASSWORD|TOKEN", name)]


def test_it_runs_as_a_numbered_user_that_is_not_root(recipe):
    *_, final = dockerfile.stages(recipe)
    users = [step.text for step in final.steps if step.kind == "USER"]
    assert users == ["10001:10001"]
    assert final.steps[-1] == Instruction("CMD", '["pendra", "worker"]')


def test_llama_cpp_is_the_one_the_project_asks_for_and_its_build_is_cached(recipe):
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    asked = next(one for one in wanted if one.startswith("llama-cpp-python"))
    compiles = [step for step in dockerfile.stages(recipe)[0].steps if f'"{asked}"' in step.text]
    assert len(compiles) == 1
    assert "type=cache" in (compiles[0].option("mount") or "")
    assert "-DGGML_NATIVE=OFF" in recipe  # the builder's CPU is not the fleet's


def test_all_that_is_packaged_is_copied(recipe):
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"][
        "include"
    ]
    copied = {step.text.split()[0] for step in dockerfile.stages(recipe)[0].steps if step.kind == "COPY"}
    assert {name.rstrip("*") for name in packages} <= copied
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied - {"pyproject.toml"} <= let_in


# ---------------------------------------------------------------- the reader


def test_a_dockerfile_is_read():
    first, last = dockerfile.stages(
        "# a comment\nFROM a:1 AS build\nRUN --mount=type=cache,target=/c x \\\n  # between\n  && y\n\n"
        'FROM b\nCMD ["z"]\n'
    )
    assert (first.base, first.name, last.base, last.name) == ("a:1", "build", "b", None)
    assert first.steps == (Instruction("RUN", "x && y", (("mount", "type=cache,target=/c"),)),)
    assert dockerfile.command(last.steps[0].text) == ["z"]
    assert dockerfile.command("a && b") == ["/bin/sh", "-c", "a && b"]


def test_variables():
    assert dockerfile.assignments('A=1 B="two words" C') == {"A": "1", "B": "two words"}
    assert dockerfile.expand("/x:$PATH:${B}", {"PATH": "/bin"}) == "/x:/bin:"


@pytest.mark.parametrize("text", ["RUN x\n", "FROM a\nONBUILD RUN x\n"])
def test_what_is_not_understood_is_said(text):
    with pytest.raises(DockerfileError):
        dockerfile.stages(text)
