"""Ollama, through its native API: our OpenAI-shaped requests become its own, and its replies ours."""
