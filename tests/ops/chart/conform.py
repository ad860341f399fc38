"""Holds rendered manifests against Kubernetes' own schemas: `python -m tests.ops.chart.conform FILE…`."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

KUBERNETES = ("1.27", "1.30")
OTHERS = {"ServiceMonitor"}  # not Kubernetes' own


def main(paths: list[str]) -> int:
    import kubernetes_validate  # type: ignore[import-not-found,unused-ignore]  # in the extra `charts` only

    faults = 0
    for path in paths:
        for one in yaml.safe_load_all(Path(path).read_text()):
            for version in KUBERNETES if one and one["kind"] not in OTHERS else ():
                try:
                    kubernetes_validate.validate(one, version, strict=True)
                except kubernetes_validate.ValidationError as exc:
                    faults += 1
                    print(f"{path}: {one['kind']} {one['metadata']['name']} ({version}): {exc.message}")  # noqa: T201
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
