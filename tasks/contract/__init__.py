"""What bridge and workers say to each other: jobs, events and worker advertisements.

Everything here is frozen and versioned (`CONTRACT_VERSION`); a worker one minor version older or newer keeps
working because unknown fields are ignored and new fields have defaults. These models are what travels *inside*
the fleet seal (`tasks.sealing`); the unsealed parts of a message are only ids and sizes (`tasks.events`).
"""

from __future__ import annotations

from tasks.contract.event import (
    EVENT,
    TERMINAL,
    Chunk,
    Claimed,
    Event,
    Failed,
    Finished,
    Notice,
    Progress,
    Timing,
    Usage,
)
from tasks.contract.fleet import BUILT_IN, BackendReport, BackendState, ModelInfo, WorkerInfo
from tasks.contract.installs import InstallProgress, InstallRequest
from tasks.contract.job import BlobRef, Job, JobKind, JsonObject, Priority, Resume
from tasks.contract.overview import JobRow, Overview
from tasks.contract.version import CONTRACT_VERSION, understands
from tasks.frozen import Frozen

__all__ = [
    "BUILT_IN",
    "CONTRACT_VERSION",
    "EVENT",
    "TERMINAL",
    "BackendReport",
    "BackendState",
    "BlobRef",
    "Chunk",
    "Claimed",
    "Event",
    "Failed",
    "Finished",
    "Frozen",
    "InstallProgress",
    "InstallRequest",
    "Job",
    "JobKind",
    "JobRow",
    "JsonObject",
    "ModelInfo",
    "Notice",
    "Overview",
    "Priority",
    "Progress",
    "Resume",
    "Timing",
    "Usage",
    "WorkerInfo",
    "understands",
]
