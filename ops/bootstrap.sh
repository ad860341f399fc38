#!/bin/sh
# Makes the virtual environment and installs this project into it: bootstrap.sh PYTHON VENV TARGET
# Names what the machine lacks together with the line that installs it, before anything is downloaded.
set -eu
python=$1 venv=$2 target=$3

missing=""
need() { missing="$missing $1"; echo "missing: $2" >&2; }

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || need python3.11 "Python 3.11 or newer ($python)"
"$python" -c 'import ensurepip, venv' 2>/dev/null || need python3-venv "Python's venv module"
have_llama=no
if [ -x "$venv/bin/python" ] && "$venv/bin/python" -c 'import llama_cpp' 2>/dev/null; then have_llama=yes; fi
if [ "$have_llama" = no ]; then
    if ! command -v cc >/dev/null || ! command -v c++ >/dev/null; then
        need build-essential "a C and C++ compiler (llama.cpp is compiled once)"
    fi
    command -v cmake >/dev/null || need cmake "cmake (llama.cpp is compiled once)"
fi
if [ -n "$missing" ]; then
    echo "install it with:  sudo apt-get update && sudo apt-get install -y$missing" >&2
    exit 1
fi

[ -x "$venv/bin/python" ] || { echo "==> making $venv"; "$python" -m venv "$venv"; }
if [ "$have_llama" = no ]; then
    echo "==> installing; compiling llama.cpp takes about 4 minutes on 2 cores, once"
fi
# A dot every 15 seconds, so that a long compile does not look like a hang.
( while sleep 15; do printf '.' >&2; done ) &
dots=$!
trap 'kill $dots 2>/dev/null || true' EXIT INT TERM
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$target"
echo "==> installed"
