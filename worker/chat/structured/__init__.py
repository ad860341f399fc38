"""What a reply must look like: JSON schemas and GBNF grammars, compiled for `worker.engine.grammar`."""
