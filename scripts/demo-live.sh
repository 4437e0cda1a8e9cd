#!/usr/bin/env bash
# What a running server looks like: a stock llama-server with the small trained model, texts of three kinds by turns,
# and `top` beside it (in a pipe: three frames), with the address of the live page. Nothing is left running.
set -euo pipefail
cd "$(dirname "$0")/.."

build=${BUILD:-build}
tracer=$build/llama-expert-tracer
model=models/babel-11m.gguf
work=$(mktemp -d "${TMPDIR:-/tmp}/expert-tracer-demo-XXXXXX")
# shellcheck source=scripts/live-server.sh
. scripts/live-server.sh

start_live_server
printf '$ %s\n' "${server_command[*]}"

start serve "$tracer" serve --listen 127.0.0.1:0
wait_for serve http
page=$(grep -o 'http://[0-9.:]*' "$work/serve.log" | head -n 1)

printf '\nThe server answers texts of three kinds by turns. Its live page: %s/\n\n' "$page"
if [[ -t 0 && -t 1 ]]; then
    sleep 3 # to read the address
    "$tracer" top "$server"
    printf 'The live page was at %s/\n' "$page"
else
    "$tracer" top --frames 3 "$server"
fi
