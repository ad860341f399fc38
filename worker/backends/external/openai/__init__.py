"""Speaking to servers that offer OpenAI's HTTP API (vLLM, LM Studio, Speaches), and making their answers ours."""
