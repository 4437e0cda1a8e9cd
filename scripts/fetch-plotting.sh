#!/usr/bin/env bash
# Fetches Apache ECharts, which draws the charts of `report --html`, from its npm
# package: one file that becomes part of the command.
#
# usage: fetch-plotting.sh [DEST]                      (default: build/plotting)
#
#   DEST/echarts.min.js    with its licence notice at its top
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"

package=echarts@6.1.0
member=package/dist/echarts.min.js
sha256=b66b25aeb4df84e33199dc21694014d336d222cbd9deb0e5a7c14bd6aa0d0fd0

dest=$(make_folder "${1:-$repo/build/plotting}")
file=$dest/echarts.min.js
is_tested() {
    echo "$sha256  $1" | sha256sum --check --status 2>/dev/null
}

! is_tested "$file" || exit 0
"$repo/scripts/install-deps.sh" page || fail "without npm the command is built without HTML pages"
need npm tar sha256sum
only_one "$dest"
! is_tested "$file" || exit 0

say "downloading $package"
work=$dest/partial
rm -rf "$work"
mkdir "$work"
packed=$(npm_pack "$package" "$work") || fail "the command is built without HTML pages until this has run"
tar -xzf "$packed" -C "$work" "$member" || fail "no $member in $package"
is_tested "$work/$member" || fail "$member of $package is not the one that was tested"
mv "$work/$member" "$file"
rm -rf "$work"
