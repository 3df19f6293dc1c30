#!/usr/bin/env bash
# Installs Chromium, in which the simulator's page is tested, if there is none and it may be
# installed here. Prints `required` if there is one now: then no test may be skipped for want of it.
set -euo pipefail

there() { command -v chromium || command -v chromium-browser || command -v google-chrome; }

if ! there >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update && apt-get install --yes --no-install-recommends chromium; } >&2 || true
fi
if there >/dev/null; then echo required; else echo "no Chromium: the page is not tested in one" >&2; fi
