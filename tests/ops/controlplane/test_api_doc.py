"""docs/api.md lists the routes that there are."""

from __future__ import annotations

import re
from pathlib import Path

from ops.controlplane.app import _INFERENCE, _UNSERVED

DOC = (Path(__file__).parents[3] / "docs" / "api.md").read_text()


def test_every_route_for_jobs_is_told() -> None:
    told = re.findall(r"^\| `POST (/[a-z/]+)` \| (yes|no: 400)", DOC, re.MULTILINE)
    assert {path for path, served in told if served == "yes"} == set(_INFERENCE)
    assert {path for path, served in told if served != "yes"} == set(_UNSERVED)
