#!/usr/bin/env bash
# Makes the picture of `top` that docs/top.md shows: of a stock llama-server with the small trained model that answers
# texts of three kinds, on a terminal of tmux, through aha into a browser without a window.
#
# usage: picture-of-top.sh [IMAGE [COLUMNS ROWS]]     (default: docs/top.png, 120, 36)
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"

image=$(realpath -m "${1:-$repo/docs/top.png}")
columns=${2:-120}
rows=${3:-36}
build=${BUILD:-$repo/build}
tracer=$build/llama-expert-tracer
model=$repo/models/babel-11m.gguf
seconds=40 # until the picture is taken

need tmux aha chromium python3
work=$(mktemp -d)
# shellcheck source=scripts/live-server.sh
. "$repo/scripts/live-server.sh"
start_live_server

tmux -S "$work/tmux" -u new-session -d -x "$columns" -y "$rows" \
    "env TERM=tmux-256color LC_ALL=C.UTF-8 '$tracer' top --size 3MiB $server"
sleep "$seconds"
tmux -S "$work/tmux" capture-pane -e -p >"$work/screen"
tmux -S "$work/tmux" kill-server
{
    printf '<!doctype html><meta charset="utf-8"><style>body { margin: 12px; background: #16181c; color: #d6d9de; }'
    printf ' pre { margin: 0; font: 14px/17px "DejaVu Sans Mono", monospace; }</style><pre>'
    aha --no-header --black <"$work/screen"
    printf '</pre>'
} >"$work/top.html"
quietly "$work/log" chromium --headless=new --no-sandbox --disable-gpu --hide-scrollbars \
    --user-data-dir="$work/profile" --window-size="$((columns * 843 / 100 + 24)),$((rows * 17 + 24))" \
    --screenshot="$work/top.png" "file://$work/top.html" ||
    fail "chromium made no picture; see above"
[ -s "$work/top.png" ] || fail "chromium ended without a picture"
mv "$work/top.png" "$image"
say "$image"
