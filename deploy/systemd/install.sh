#!/bin/bash
# Installs this checkout as a systemd service, or upgrades to it. Run as root:
#
#   deploy/systemd/install.sh pub.example.org     HOST goes into invite codes; later calls keep it when none is given
#
# Every release is an environment of its own below /opt/ssb-pub, and `current` points to the one in use: an upgrade that
# fails half way changes nothing, and the one before is kept to go back to. Needs Python 3.11 or later with venv.
set -euo pipefail
source=$(cd "$(dirname "$0")/../.." && pwd)
home=/opt/ssb-pub
release=$home/$(date --utc +%Y%m%d-%H%M%S)
before=$(readlink "$home/current" || true)
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore

umask 022 # the service's user must be able to read what root installs
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/build"
"$work/build/bin/pip" install --quiet --require-hashes -r "$source/requirements-build.lock"
"$work/build/bin/pip" wheel --quiet --no-deps --no-build-isolation --wheel-dir "$work" "$source"

mkdir -p "$home"
python3 -m venv "$release"
"$release/bin/pip" install --quiet --require-hashes --only-binary :all: -r "$source/requirements.lock"
"$release/bin/pip" install --quiet --no-deps "$work"/ssb_pub-*.whl
ln -sfn "$release" "$home/new" && mv -T "$home/new" "$home/current"

printf '#!/bin/sh\nexec %s/current/bin/ssb-pub --data /var/lib/ssb-pub "$@"\n' "$home" >/usr/local/bin/ssb-pub
chmod 755 /usr/local/bin/ssb-pub
install -m 644 "$source/deploy/systemd/ssb-pub.service" /etc/systemd/system/ssb-pub.service
if [ $# -gt 0 ]; then
    mkdir -p /etc/systemd/system/ssb-pub.service.d
    printf '[Service]\nEnvironment=PUB_ADDRESS_HOST=%s\n' "$1" >/etc/systemd/system/ssb-pub.service.d/address.conf
fi
systemctl daemon-reload
systemctl enable --quiet ssb-pub
systemctl restart ssb-pub # returns when the pub is ready
find "$home" -mindepth 1 -maxdepth 1 -type d ! -path "$release" ! -path "${before:-$release}" -exec rm -rf {} +
ssb-pub status
