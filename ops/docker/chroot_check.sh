#!/bin/sh
# Executes the CPU image's steps in a chroot, for machines without a container engine: chroot_check.sh [WORK]
# Needs root, debootstrap and a Debian mirror. About 10 minutes on 2 cores the first time (llama.cpp is compiled), 1 with
# its caches. Ends with `pendra demo` as the image's user on a read-only file system when `make model` has been run.
set -eu
cd "$(dirname "$0")/../.."
work=${1:-.cache/image}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
[ "$(id -u)" = 0 ] || { echo "chroot_check: run it as root: sudo make image-check" >&2; exit 1; }
command -v debootstrap >/dev/null || { echo "chroot_check: apt-get install debootstrap" >&2; exit 1; }
mkdir -p "$work"
work=$(cd "$work" && pwd)

base=$work/base
if [ ! -e "$base/.complete" ]; then
    rm -rf "$base"
    echo "==> debootstrap bookworm, standing for python:3.11-slim-bookworm"
    debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv bookworm "$base" "$mirror"
    ln -sf /usr/bin/python3 "$base/usr/local/bin/python"
    rm -rf "$base"/var/cache/apt/archives/*.deb
    touch "$base/.complete"
fi
set -- --base "$base" --work "$work"
if [ -d .cache/models ]; then
    # a copy, because the image's user owns the store and writes beside the models
    rm -rf "$work/models" && cp -r .cache/models "$work/models" && chown -R 10001:10001 "$work/models"
    set -- "$@" --model "$work/models"
fi
exec python3 -m ops.docker.replay "$@" ops/docker/cpu.Dockerfile
