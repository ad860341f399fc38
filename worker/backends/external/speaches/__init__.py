"""Speaches: transcription and speech over HTTP, its models installed and removed through it."""

from worker.backends.external.speaches.product import Speaches

__all__ = ["Speaches"]
