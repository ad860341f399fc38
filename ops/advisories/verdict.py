"""What a report means: which findings stand, which were accepted, and the words for it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ops.advisories.records import Accepted
from ops.advisories.scan import Finding, Report


@dataclass(frozen=True, slots=True)
class Verdict:
    """`findings` stand; `accepted` are those with a reason; `unjudged` packages nobody knows."""

    service: str
    judged: int
    unjudged: tuple[str, ...]
    findings: tuple[Finding, ...]
    accepted: tuple[Accepted, ...]


def verdict(service: str, report: Report, accepted: Iterable[Accepted]) -> Verdict:
    allowed = tuple(accepted)
    used = {finding: _reason(finding, allowed) for finding in report.findings}
    return Verdict(
        service=service,
        judged=report.judged,
        unjudged=report.unjudged,
        findings=tuple(finding for finding, reason in used.items() if reason is None),
        accepted=tuple(dict.fromkeys(reason for reason in used.values() if reason)),
    )


def lines(said: Verdict) -> Iterator[str]:
    for each in said.findings:
        mend = f"fixed in {', '.join(each.fixed)}" if each.fixed else "not fixed in any version"
        yield f"VULNERABLE {each.package} {each.version}: {', '.join(each.ids)}; {mend}"
    for reason in said.accepted:
        yield f"accepted {reason.package}: {reason.id}. {reason.why}"
    if said.unjudged:
        yield f"not judged, unknown there: {', '.join(said.unjudged)}"
    many = f"{said.judged} packages judged by {said.service}"
    yield f"{many}: {len(said.findings)} known vulnerabilities" if said.findings else f"{many}: none known"


def _reason(finding: Finding, accepted: tuple[Accepted, ...]) -> Accepted | None:
    return next((each for each in accepted if each.package == finding.package and each.id in finding.ids), None)
