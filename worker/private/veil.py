"""What a private request's failure may say in the clear: its code, and words without anything of it. Pure."""

from __future__ import annotations

from tasks.errors import PendraError

_OURS = frozenset(  # their words are made in this package, or about the fleet alone
    {
        "bad_envelope",
        "envelope_not_opened",
        "no_private_inference_worker",
        "private_reply_lost",
        "private_replayed",
        "redis_unavailable",
        "draining",
        "cancelled",
    }
)
_WORDS = {
    "context_length_exceeded": "the request is longer than the model's context",
    "bad_schema": "the response format's schema cannot be compiled",
    "bad_grammar": "the grammar cannot be compiled",
    "unsupported_parameter": "the request uses a parameter that this model's backend does not have",
    "unsupported_content": "the request holds content that this model cannot take",
    "invalid_json": "the sealed body is not a JSON object",
    "out_of_memory": "the worker has too little memory for the model",
    "model_not_found": "the worker does not have the model",
}


def veiled(error: PendraError) -> PendraError:
    """The same kind of error with the same code; what it says about the request stays on the worker."""
    if error.code in _OURS:
        return error
    words = _WORDS.get(error.code, "the request failed")
    message = f"{words} ({error.code}); nothing more is said, because the request is private"
    return type(error)(message, code=error.code, retry_after=error.retry_after)
