"""LM Studio: its native REST API for models and downloads, its OpenAI-shaped one for the work."""
