#!/usr/bin/env bash
# Installs nats-server where it is missing and that is possible; fails where it is not. The tests of
# kalshi-fanout start it, and skip what needs it where it is missing.
set -euo pipefail

if ! command -v nats-server >/dev/null; then
    command -v apt-get >/dev/null || { echo "nats-server is not installed, and there is no apt-get" >&2; exit 1; }
    sudo=()
    [ "$(id -u)" = 0 ] || sudo=(sudo -n)
    "${sudo[@]}" apt-get update -qq
    "${sudo[@]}" apt-get install -y -qq --no-install-recommends nats-server
fi
nats-server --version
