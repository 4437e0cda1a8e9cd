#!/usr/bin/env bash
# Fetches stock llama.cpp libraries of two years, as the npm package
# node-llama-cpp ships them, with its client.
#
# usage: fetch-old-engines.sh [DEST [RELEASE...]]     (default: build/engines, all)
#
#   DEST/<release>/lib/    libllama, libggml and the backends; since b6673 with
#                          the release in their names, e.g. libllama.b6673.so
#   DEST/<release>/node/   an npm project with node-llama-cpp, which uses them
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"

declare -A client=(
    [b3995]=3.2.0
    [b4753]=3.6.0
    [b5640]=3.10.0
    [b6673]=3.14.0
    [b8179]=3.17.1
    [b9842]=3.19.0
    [0.4.0]=3.21.1
    [0.5.0]=3.22.1
)
releases=(b3995 b4753 b5640 b6673 b8179 b9842 0.4.0 0.5.0)
platform=linux-x64

fetch() {
    local release=$1 version=${client[$1]} work=$dest/$1.partial
    local -a packages
    say "llama.cpp $release (node-llama-cpp $version)"
    rm -rf "$work"
    mkdir -p "$work/node"
    echo '{ "private": true }' >"$work/node/package.json"
    packages=("$(npm_pack "node-llama-cpp@$version" "$work")") || exit
    packages+=("$(npm_pack "@node-llama-cpp/$platform@$version" "$work")") || exit
    # No install scripts: they would look for, or build, a llama.cpp elsewhere.
    # No optional packages: those are the other platforms and the GPUs.
    quietly "$work/log" npm install --prefix "$work/node" \
        --ignore-scripts --omit=optional --no-audit --no-fund --loglevel=error \
        "${packages[@]}" ||
        fail "npm could not install node-llama-cpp@$version; see above, then run this again"
    rm -rf "$work/log" "$work"/pack.* "$work/node/node_modules/node-llama-cpp/llama/gitRelease.bundle"
    ln -s "node/node_modules/@node-llama-cpp/$platform/bins/$platform" "$work/lib"
    compgen -G "$work/lib/libllama*.so" >/dev/null ||
        fail "no libllama in @node-llama-cpp/$platform@$version"
    seal "$work"
    rm -rf "${dest:?}/$release"
    mv "$work" "$dest/$release"
}

dest=$(make_folder "${1:-$repo/build/engines}")
[ $# -lt 2 ] || releases=("${@:2}")

missing=()
for release in "${releases[@]}"; do
    [ -n "${client[$release]:-}" ] || fail "unknown release '$release'; there are: ${!client[*]}"
    is_whole "$dest/$release" || missing+=("$release")
done
[ ${#missing[@]} -gt 0 ] || exit 0

[ "$(uname -sm)" = "Linux x86_64" ] || fail "these libraries are for Linux on x86-64 only"
need npm node
only_one "$dest"
for release in "${missing[@]}"; do
    is_whole "$dest/$release" || fetch "$release"
done
