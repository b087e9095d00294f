#!/usr/bin/env bash
# Makes a checkout ready: Debian packages, the Python environment in .build/venv, the extension and the command line.
# usage: scripts/setup.sh run|test     (`test` adds the tools that judge us in the tests)
# Runs again cheaply: each step is skipped when nothing it depends on has changed.
set -euo pipefail
cd "$(dirname "$0")/.."
purpose=${1:-run}

scripts/debian_packages.sh gcc libc6-dev python3-venv ca-certificates busybox-static
if [ "$purpose" = test ]; then
    scripts/debian_packages.sh docker-registry erofs-utils skopeo umoci podman buildah crun runc rpm attr libcap2-bin openssl nftables iptables iproute2 containernetworking-plugins git wget openssh-client openssh-server xfsprogs btrfs-progs
fi

if ! command -v cargo >/dev/null; then
    printf 'Rust is missing: install rustup, then run this again (rust-toolchain.toml names the version).\n' >&2
    exit 1
fi

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    printf '%s is older than 3.11: name a newer one with PYTHON=...\n' "$python" >&2
    exit 1
}

venv=.build/venv
stamp=.build/requirements.sha256
mkdir -p .build
if [ ! -x $venv/bin/python ]; then
    "$python" -m venv $venv
    rm -f $stamp
fi
if ! sha256sum --quiet --check $stamp >/dev/null 2>&1; then
    $venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
    $venv/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e clients/python
    sha256sum requirements/dev.txt requirements/dev.in clients/python/pyproject.toml >$stamp
fi

# cargo decides for itself what is fresh; maturin then puts the extension and the supervisor beside the package. It writes
# into the file that is there, which the kernel refuses while a container runs under it: one of its own is put there.
supervisor=server/fluytd/libexec/fluyt-supervisor
if [ -e $supervisor ]; then
    cp -p $supervisor $supervisor.new
    mv -f $supervisor.new $supervisor
fi
VIRTUAL_ENV="$PWD/$venv" PATH="$PWD/$venv/bin:$PATH" $venv/bin/maturin develop --release --skip-install --quiet
site=$($venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
printf '%s\n' "$PWD/server" >"$site/fluytd.pth"
cargo build --quiet --release --locked -p fluyt-cli
# A daemon of modules that nobody compiled takes half as long again to come up.
$venv/bin/python -m compileall -q server/fluytd clients/python/fluyt
