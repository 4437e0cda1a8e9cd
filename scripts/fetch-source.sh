#!/usr/bin/env bash
# Checks out llama.cpp's source tree, release 0.5.0, for a build of one's own.
# It is the git bundle inside the npm package node-llama-cpp.
#
# usage: fetch-source.sh [DEST]     (default: build/llama.cpp-0.5.0)
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"

package=node-llama-cpp@3.22.1
bundle=package/llama/gitRelease.bundle

dest=${1:-$repo/build/llama.cpp-0.5.0}
[ ! -d "$dest" ] || exit 0

need npm git tar
mkdir -p "$(dirname "$dest")"
dest=$(cd "$(dirname "$dest")" && pwd -P)/$(basename "$dest")
work=$(mktemp -d "$dest.XXXXXX")
trap 'rm -rf "$work"' EXIT

say "downloading $package"
quietly "$work/log" npm pack "$package" --pack-destination "$work" --ignore-scripts --loglevel=error ||
    fail "npm could not download $package; see above, then run this again"
tar -xzf "$work"/*.tgz -C "$work" "$bundle" || fail "no $bundle in $package"

say "checking out"
quietly "$work/log" git clone -c advice.detachedHead=false "$work/$bundle" "$work/tree" ||
    fail "git could not read the bundle in $package; see above"
git -C "$work/tree" remote remove origin
mv "$work/tree" "$dest"
