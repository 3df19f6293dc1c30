#!/usr/bin/env bash
# Draws kalshi-cli/terminal.svg anew: the live terminal on an exchange in the process whose clock
# stands still, so that the same source draws the same bytes. Each run of the tests of kalshi-cli
# checks that the file is what would be drawn.
set -euo pipefail
cd "$(dirname "$0")/.."

UPDATE_GOLDEN=1 cargo test -p kalshi-cli --bin kalshi -- --exact \
    tui::picture::the_picture_in_the_readme_is_current
ls -l kalshi-cli/terminal.svg
