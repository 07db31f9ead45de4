#!/bin/bash
# Makes a stand-in for the public image python:3-slim out of Debian's packages, for machines that reach no registry:
#
#   tests/deploy/base.sh base.tar && podman import base.tar python:TAG
#
# Needs mmdebstrap and root. Where a proxy with a certificate of its own stands between the machine and the world, pip
# must trust inside what is trusted outside: the machine's certificates go in.
set -euo pipefail
certificates=/etc/ssl/certs/ca-certificates.crt
pip=$(mktemp -d)
trap 'rm -rf "$pip"' EXIT
printf '[global]\ncert = %s\n' $certificates >"$pip/pip.conf"
# shellcheck disable=SC2016 # mmdebstrap's shell is to read $1: the new root
mmdebstrap --quiet --variant=minbase --format=tar --include=ca-certificates,python3,python3-venv \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook="copy-in $certificates /etc/ssl/certs" \
    --customize-hook="copy-in $pip/pip.conf /etc" \
    --customize-hook='ln -s /usr/bin/python3 "$1/usr/local/bin/python3"' \
    trixie "$1"
