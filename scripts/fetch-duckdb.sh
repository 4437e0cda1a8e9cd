#!/usr/bin/env bash
# Fetches DuckDB, as the npm package @duckdb/node-api ships it, for the tests of
# what `export` writes.
#
# usage: fetch-duckdb.sh [DEST]                        (default: build/duckdb)
#
#   DEST/node_modules/@duckdb/    the client and the library
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"

version=1.5.6-r.1

dest=$(make_folder "${1:-$repo/build/duckdb}")
[ ! -d "$dest/node_modules" ] || exit 0
need npm node
only_one "$dest"
[ ! -d "$dest/node_modules" ] || exit 0

say "DuckDB ${version%%-*}"
work=$dest/partial
rm -rf "$work"
mkdir "$work"
echo '{ "private": true }' >"$work/package.json"
# No install scripts: the library is in the package of this platform.
quietly "$work/log" npm install --prefix "$work" \
    --ignore-scripts --no-audit --no-fund --loglevel=error "@duckdb/node-api@$version" ||
    fail "npm could not install @duckdb/node-api@$version; see above, then run this again"
mv "$work/package.json" "$dest/"
mv "$work/node_modules" "$dest/"
rm -rf "$work"
