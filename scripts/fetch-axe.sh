#!/usr/bin/env bash
# Fetches axe-core, which finds what keeps people from using a page, for the
# tests of the live page, from its npm package.
#
# usage: fetch-axe.sh [DEST]                           (default: build/axe)
#
#   DEST/axe.min.js
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"

package=axe-core@4.14.1
member=package/axe.min.js

dest=$(make_folder "${1:-$repo/build/axe}")
! is_whole "$dest" || exit 0
need npm node tar
only_one "$dest"
! is_whole "$dest" || exit 0

say "downloading $package"
work=$dest/partial
rm -rf "$work"
mkdir "$work"
packed=$(npm_pack "$package" "$work") || exit
tar -xzf "$packed" -C "$work" "$member" || fail "no $member in $package"
mv "$work/$member" "$dest/"
rm -rf "$work"
seal "$dest"
