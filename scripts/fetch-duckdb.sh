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
! is_whole "$dest" || exit 0
need npm node
only_one "$dest"
! is_whole "$dest" || exit 0
case $(uname -sm) in
    "Linux x86_64")  platform=linux-x64 ;;
    "Linux aarch64") platform=linux-arm64 ;;
    *)               fail "no package of DuckDB is known for $(uname -sm)" ;;
esac

say "DuckDB ${version%%-*}"
work=$dest/partial
rm -rf "$work"
mkdir "$work"
echo '{ "private": true }' >"$work/package.json"
packages=()
for package in @duckdb/node-api @duckdb/node-bindings "@duckdb/node-bindings-$platform"; do
    packages+=("$(npm_pack "$package@$version" "$work")") || exit
done
# No install scripts: the library is in the package of this platform.
quietly "$work/log" npm install --prefix "$work" \
    --ignore-scripts --omit=optional --no-audit --no-fund --loglevel=error "${packages[@]}" ||
    fail "npm could not install @duckdb/node-api@$version; see above, then run this again"
rm -rf "$dest/node_modules" "$dest/.files"
mv "$work/package.json" "$dest/"
mv "$work/node_modules" "$dest/"
rm -rf "$work"
seal "$dest"
