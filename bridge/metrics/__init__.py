"""What Prometheus is told of the fleet (docs/metrics.md).

hooks ─► tally (pure counts) ─┐
session.readings ─────────────┴─► families (names, labels) ─► server (`/metrics`, a thread of its own)
"""
