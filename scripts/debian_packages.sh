#!/usr/bin/env bash
# Installs the Debian packages named on the command line that are not there yet; keeps their services from starting.
# Does nothing, and needs no root, when all are there.
set -euo pipefail

missing=()
for package in "$@"; do
    dpkg-query -W -f='${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    printf 'These Debian packages are missing; install them as root:\n  apt-get install %s\n' "${missing[*]}" >&2
    exit 1
fi

# invoke-rc.d asks this file whether a package may start its service (policy-rc.d, invoke-rc.d(8)).
policy=/usr/sbin/policy-rc.d
made_policy=no
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 0755 "$policy"
    made_policy=yes
fi
cleanup() { [ "$made_policy" = no ] || rm -f "$policy"; }
trap cleanup EXIT

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}"
