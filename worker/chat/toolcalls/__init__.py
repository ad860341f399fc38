"""Tool calls: found in what a model writes, each model family in its own syntax, and forced by grammar."""
