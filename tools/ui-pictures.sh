#!/usr/bin/env bash
# Takes pictures of the simulator's page with Chromium, at both widths, light and dark, to be looked
# at; the three of the READMEs are replaced. Needs Chromium and Python 3.
# tools/ui-pictures.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."

folder="${1:-$(mktemp -d)}"
UI_PICTURES="$folder" KALSHI_SIM_BROWSER=required cargo test -p kalshi-sim --test all -- \
    --exact ui::pages::pictures
mkdir -p kalshi-sim/pictures
for name in ui-wide-light ui-wide-dark ui-narrow-light; do
    tools/shrink-png.py "$folder/$name.png" "kalshi-sim/pictures/$name.png" 16
done
ls -l kalshi-sim/pictures "$folder"
