"""Known vulnerabilities of what is installed: `make audit`, and the check of it in `make test`.

pip-audit judges. It asks a live service where one answers, else an OSV service of ours on loopback (`service`) over
the advisories we keep (`known.json`) and those collected from a clone of a public database (`collect`). No service is
believed before it has reported a version that is known to be vulnerable: an index that answers 404 to all questions
looks like good news otherwise.
"""
