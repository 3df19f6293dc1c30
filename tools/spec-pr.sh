#!/usr/bin/env bash
# Opens the pull request for documents that tools/spec-fetch.sh took over, or refreshes it.
#
#   tools/spec-pr.sh REPORT
#
# Does nothing if REPORT is empty. Needs `gh` and a token that may push a branch.
set -euo pipefail
cd "$(dirname "$0")/.."
report=${1:?the report}
[ -s "$report" ] || { echo "the published documents are the ones here"; exit 0; }
branch=documents
title=$(sed -n 's/^## //p' "$report" | paste -s -d ';' | sed 's/;/; /g')
git config user.name 'github-actions[bot]'
git config user.email '41898282+github-actions[bot]@users.noreply.github.com'
git switch --quiet --force-create "$branch"
git add --all
git commit --quiet --message "Take over ${title:-the published documents}"
# The branch is the machine's own: it always starts at the newest main.
git push --quiet --force origin "$branch"
if gh pr view "$branch" --json state --jq .state 2> /dev/null | grep -q OPEN; then
    gh pr edit "$branch" --title "$title" --body-file "$report"
else
    gh pr create --head "$branch" --title "$title" --body-file "$report"
fi
