"""What each path of the API does, in one line each: the table behind `openapi.json`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PUBLIC: Final = "public"
USER: Final = "user"
ADMIN: Final = "admin"

JSON = "application/json"
EVENTS = "text/event-stream"
FORM = "multipart/form-data"


@dataclass(frozen=True, slots=True)
class Operation:
    """`prefixed`: under /v1 and /api/v1. `who`: whose key it needs. `reads`: the schema of its body, if it takes one.

    `gives`: the media types of its answer.
    `unready`: what a 503 means that is no error but has the shape of the answer.
    """

    method: str
    path: str
    name: str
    summary: str
    who: str = USER
    reads: str | None = None
    takes: str = JSON
    gives: tuple[str, ...] = (JSON,)
    status: int = 200
    answer: str = "As docs/api.md says"
    parameters: tuple[str, ...] = ()
    prefixed: bool = True
    unready: str | None = None


_HEADERS = ("priority", "pin")


def _job(
    path: str, name: str, summary: str, reads: str, *, gives: tuple[str, ...] = (JSON,), takes: str = JSON
) -> Operation:
    return Operation(
        "POST", path, name, summary, reads=reads, gives=gives, takes=takes, parameters=_HEADERS, answer="The reply"
    )


def _refused(path: str, name: str) -> Operation:
    return Operation("POST", path, name, "Not served: 400 says what is", status=400, answer="What is served instead")


def _admin(method: str, path: str, name: str, summary: str, *, reads: str | None = None, status: int = 200,
           gives: tuple[str, ...] = (JSON,)) -> Operation:  # fmt: skip
    return Operation(method, path, name, summary, who=ADMIN, reads=reads, status=status, gives=gives)


OPERATIONS = (
    _job("/chat/completions", "chat", "A chat, whole or streamed", "ChatRequest", gives=(JSON, EVENTS)),
    _job("/completions", "complete", "A text that goes on", "CompletionRequest", gives=(JSON, EVENTS)),
    _job("/embeddings", "embed", "Vectors of texts", "EmbeddingsRequest"),
    _job("/rerank", "rerank", "Documents by how well they answer", "RerankRequest"),
    _job("/images/generations", "draw", "Images of a text", "ImageRequest"),
    _job("/audio/transcriptions", "transcribe", "The text of speech", "TranscriptionForm",
         takes=FORM, gives=(JSON, "text/plain")),
    _job("/audio/speech", "speak", "The speech of a text", "SpeechRequest", gives=("audio/*",)),
    _refused("/audio/translations", "translate"),
    _refused("/moderations", "moderate"),
    Operation("GET", "/models", "models", "The models that are served", parameters=("type",)),
    Operation("GET", "/models/{model_id}", "model", "One of them"),
    Operation("GET", "/catalogue", "catalogue", "The models that can be installed", who=PUBLIC),
    Operation("GET", "/private-inference/key", "workload_keys", "The keys that private requests are sealed to"),
    _admin("POST", "/installs", "install", "Install a model", reads="InstallRequest", status=202),
    _admin("POST", "/uninstalls", "uninstall", "Remove a model", reads="UninstallRequest", status=202),
    _admin("GET", "/installs", "installs", "The installs there were"),
    _admin("GET", "/installs/events", "installs_events", "How all of them go on", gives=(EVENTS,)),
    _admin("GET", "/installs/{request_id}", "install_shown", "One of them"),
    _admin("POST", "/installs/{request_id}/cancel", "install_cancel", "Stop it", reads="CancelRequest", status=202),
    _admin("GET", "/installs/{request_id}/events", "install_events", "How it goes on", gives=(EVENTS,)),
    _admin("GET", "/admin/keys", "keys", "The API keys"),
    _admin("POST", "/admin/keys", "key_create", "Make one; its text is shown this once", reads="NewKey", status=201),
    _admin("POST", "/admin/keys/{name}/revoke", "key_revoke", "Revoke one"),
    _admin("GET", "/admin/identities", "identities", "The bridges' keys"),
    _admin("POST", "/admin/identities", "identity_enrol", "Let a bridge's key in", reads="NewIdentity", status=201),
    _admin("POST", "/admin/identities/{name}/approve", "identity_approve", "Approve one that asked"),
    _admin("POST", "/admin/identities/{name}/revoke", "identity_revoke", "Revoke one, for good"),
    _admin("GET", "/admin/audit", "audit", "The newest checkpoints of the audit logs"),
    _admin("GET", "/live", "live", "The fleet as it is, and what changes", gives=(EVENTS,)),
    Operation("GET", "/healthz", "health", "Ready or not", who=PUBLIC, prefixed=False,
              answer="A worker serves a model", unready="No worker serves a model yet"),
    Operation("GET", "/metrics", "metrics", "For Prometheus; without a key from this machine only", who=ADMIN,
              prefixed=False, gives=("text/plain", "application/openmetrics-text")),
    Operation("GET", "/openapi.json", "openapi", "This description", who=PUBLIC, prefixed=False),
)  # fmt: skip
