"""Private inference v2 in the worker: the only code that holds a workload key, opens an envelope or seals a frame."""
