#!/usr/bin/env bash
# Builds the core and the supervisor with fences that can be left out (rust_core/sys/src/weakened.rs) into .build/weakened,
# a copy of the server that only tests of tests run.
set -euo pipefail
cd "$(dirname "$0")/.."
unset FLUYT_SUPERVISOR_PREBUILT
built=.build/weakened
PYO3_PYTHON=$PWD/.build/venv/bin/python cargo build --quiet --release --locked -p fluyt-bindings --features weakened --message-format=json > .build/weakened.json
read -r library out < <(.build/venv/bin/python - .build/weakened.json <<'PY'
import json, sys

library = out = ""
for line in open(sys.argv[1]):
    message = json.loads(line)
    if "fluyt-bindings" not in message.get("package_id", "") and "rust_core/bindings" not in message.get("package_id", ""):
        continue
    if message["reason"] == "build-script-executed":
        out = message["out_dir"]
    elif message["reason"] == "compiler-artifact" and "cdylib" in message["target"]["kind"]:
        library = message["filenames"][0]
print(library, out)
PY
)
rm -rf "$built"
mkdir -p "$built"
cp -a server/fluytd "$built/"
rm -f "$built"/fluytd/*.so
cp "$library" "$built/fluytd/_core.abi3.so"
cp "$out/fluyt-supervisor" "$built/fluytd/libexec/fluyt-supervisor"
