#!/usr/bin/env bash
# What a running server looks like: a stock llama-server with the small trained model, texts of three kinds by turns,
# and `top` beside it (in a pipe: three frames), with the address of the live page. Nothing is left running.
set -euo pipefail
cd "$(dirname "$0")/.."

build=${BUILD:-build}
tracer=$build/llama-expert-tracer
model=models/babel-11m.gguf

# The processes of this demonstration alone.
LLAMA_EXPERT_TRACE_LIVE=$(mktemp -d "${TMPDIR:-/tmp}/expert-tracer-demo-XXXXXX")
export LLAMA_EXPERT_TRACE_LIVE

started=()
clean_up() {
    for process in "${started[@]}"; do
        kill "$process" 2>/dev/null || true
    done
    wait 2>/dev/null || true
    rm -rf "$LLAMA_EXPERT_TRACE_LIVE"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# wait_for LOG PROCESS COMMAND...: until the command succeeds, or the program behind the log has ended.
wait_for() {
    local log=$1 process=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        kill -0 "$process" 2>/dev/null || { cat "$log" >&2; exit 1; }
        sleep 0.2
    done
}

port=$(free_port)
printf '$ %s\n' "$tracer run -- $build/engine/bin/llama-server -m $model -np 3 -c 6144 --port $port"
"$tracer" run --quiet -- "$build/engine/bin/llama-server" -m "$model" -t 1 -np 3 -c 6144 --port "$port" \
    </dev/null >"$build/demo-live-server.log" 2>&1 &
server=$!
started+=("$server")

python3 scripts/talk-to-server.py "$port" </dev/null >"$build/demo-live-talk.log" 2>&1 &
talk=$!
started+=("$talk")
wait_for "$build/demo-live-talk.log" "$talk" grep -q . "$build/demo-live-talk.log"

"$tracer" serve --listen 127.0.0.1:0 </dev/null >/dev/null 2>"$build/demo-live-serve.log" &
serve=$!
started+=("$serve")
wait_for "$build/demo-live-serve.log" "$serve" grep -q http "$build/demo-live-serve.log"
page=$(grep -o 'http://[0-9.:]*' "$build/demo-live-serve.log" | head -n 1)

printf '\nThe server answers texts of three kinds by turns. Its live page: %s/\n\n' "$page"
if [[ -t 0 && -t 1 ]]; then
    sleep 3 # to read the address
    "$tracer" top "$server"
    printf 'The live page was at %s/\n' "$page"
else
    "$tracer" top --frames 3 "$server"
fi
