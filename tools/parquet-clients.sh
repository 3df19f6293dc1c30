#!/usr/bin/env bash
# Runs the queries of kalshi-cli/PARQUET.md in DuckDB and Polars, and compares their answers with what
# the recording's replay gives. Needs Python 3 with venv, and a package index.
set -euo pipefail
cd "$(dirname "$0")/.."

bin="$(tools/venv.sh parquet kalshi-cli/tests/python/requirements.txt)"
# By the build of the whole workspace, as in the tests: -p would choose other features.
KALSHI_PYTHON="$PWD/$bin/python" cargo test --workspace --features kalshi-cli/fanout,kalshi-cli/klear,kalshi-cli/perps --test all -- --ignored --exact \
    export::parquet::duckdb_and_polars_answer_the_queries_of_the_page
