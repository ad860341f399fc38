"""`pendra doctor`: what is wrong with this host, and what helps. One check a file.

A check is a look (I/O, may take seconds) and a judgement of what it saw (pure): facts in, verdicts out.
"""
