#!/bin/sh
# Docker's tour: an app is built from a folder and from a git repository, tagged, pushed to a registry, pulled by another
# engine and run there with a published port.
#
#   FLUYT_HOST    the engine that builds, which has the image BASE (default busybox:1)
#   ELSEWHERE     the engine that runs it (default: the same)
#   REGISTRY      host:port of a registry that may be asked without TLS, as 127.0.0.1:5000
#   PORT          published on this host (default 8080)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
: "${REGISTRY:?name a registry, as 127.0.0.1:5000}" "${BASE:=busybox:1}" "${PORT:=8080}" "${ELSEWHERE:=${FLUYT_HOST:-}}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

elsewhere() { FLUYT_HOST=$ELSEWHERE fluyt "$@"; }

echo "== from a folder, with a tag, pushed"
fluyt build -q --build-arg BASE="$BASE" -t tour/app:1 "$here/app"
fluyt tag tour/app:1 "$REGISTRY/tour/app:1"
fluyt push -q "$REGISTRY/tour/app:1"

echo "== from a git repository, pushed by the build"
git init -q -b main "$work/app"
cp -R "$here/app" "$work/app/server"
git -C "$work/app" add -A
git -C "$work/app" -c user.name=tour -c user.email=tour@localhost commit -q -m "The app"
git clone -q --bare "$work/app" "$work/app.git"
fluyt build -q --build-arg BASE="$BASE" --build-arg GREETING=ahoy --iidfile "$work/id" --push \
    -t "$REGISTRY/tour/app:2" -t "$REGISTRY/tour/app:latest" "file://$work/app.git#main:server"

echo "== pulled and run elsewhere"
elsewhere pull -q "$REGISTRY/tour/app:latest"
elsewhere run -d --name tour-app -p "127.0.0.1:$PORT:80" "$REGISTRY/tour/app:latest"
trap 'rm -rf "$work"; elsewhere rm -f tour-app > /dev/null' EXIT
tries=0
until page=$(wget -q -O - "http://127.0.0.1:$PORT/" 2> /dev/null); do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || { echo "the app does not answer" >&2; exit 1; }
    sleep 0.1
done
echo "$page"

echo "== its files, and an archive of it"
fluyt build -q --build-arg BASE="$BASE" -o "$work/files" "$here/app"
cat "$work/files/www/index.html"
fluyt build -q --build-arg BASE="$BASE" -t tour/app:1 -o "type=oci,dest=$work/app.tar" "$here/app"
elsewhere load -q -i "$work/app.tar"
