#!/usr/bin/env bash
# Checks out a source tree of llama.cpp for a build of one's own. It is the git
# bundle inside the npm package node-llama-cpp.
#
# usage: fetch-source.sh [DEST [RELEASE]]     (default: build/llama.cpp-RELEASE, and 0.5.0)
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"

release=${2:-0.5.0}
case $release in
    0.5.0) package=node-llama-cpp@3.22.1 ;;
    0.4.0) package=node-llama-cpp@3.21.1 ;;
    b9842) package=node-llama-cpp@3.19.0 ;;
    *)     fail "no source of release $release is known; 0.5.0, 0.4.0 and b9842 are" ;;
esac
bundle=package/llama/gitRelease.bundle

dest=${1:-$repo/build/llama.cpp-$release}
need git
if [ -d "$dest" ]; then
    # Whoever changed a file of it has a reason; without one of its files it is half a tree.
    if [ ! -e "$dest/.git" ] || [ -n "$(git -C "$dest" ls-files --deleted | head -n 1)" ]; then
        fail "$dest is there and not whole; remove it, then run this again"
    fi
    exit 0
fi
need npm node tar
mkdir -p "$(dirname "$dest")"
dest=$(cd "$(dirname "$dest")" && pwd -P)/$(basename "$dest")
work=$(mktemp -d "$dest.XXXXXX")
trap 'rm -rf "$work"' EXIT

say "downloading $package"
packed=$(npm_pack "$package" "$work") || exit
tar -xzf "$packed" -C "$work" "$bundle" || fail "no $bundle in $package"

say "checking out"
quietly "$work/log" git clone -c advice.detachedHead=false "$work/$bundle" "$work/tree" ||
    fail "git could not read the bundle in $package; see above"
git -C "$work/tree" remote remove origin
mv "$work/tree" "$dest"
