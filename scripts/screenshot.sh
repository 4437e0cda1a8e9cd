#!/usr/bin/env bash
# Makes the picture of a page that the README shows: `report --html` of a trace,
# in a browser without a window, from the top as far as HEIGHT pixels.
#
# usage: screenshot.sh [TRACE [IMAGE [HEIGHT]]]
#                            (default: build/demo.moetrace, docs/report.png, 1400)
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"

trace=${1:-$repo/build/demo.moetrace}
image=$(realpath -m "${2:-$repo/docs/report.png}")
height=${3:-1400}
command=${BUILD:-$repo/build}/llama-expert-tracer

[ -e "$trace" ] || fail "no trace $trace: record one with run --routing, or with make demo"
need chromium
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$command" report --html "$work/report.html" "$trace" >"$work/report.txt" || fail "no page of $trace; see above"
# A browser of root's has no sandbox to run in, and is shown nothing but this page.
quietly "$work/log" chromium --headless=new --no-sandbox --disable-gpu --hide-scrollbars \
    --user-data-dir="$work/profile" --window-size="1200,$height" --virtual-time-budget=5000 \
    --screenshot="$work/report.png" "file://$work/report.html" ||
    fail "chromium made no picture; see above"
[ -s "$work/report.png" ] || fail "chromium ended without a picture"
mv "$work/report.png" "$image"
say "$image"
