"""How a second host gets what a fleet's hosts share, without any of it passing through Redis.

token ◄── server (the host that has the keys) ══ TLS, pinned by the token ══ client (the new host) ──► files, 0600

`token` (what is printed once) · `grant` (what is handed over) · `sealing` (only the token opens it) · `desk` (who
gets it; pure) · `server` and `client` (the wire) · `source` and `target` (the two hosts' settings and files).
"""
