# Sourced by the scripts that show a running server: a stock llama-server with the small trained model, traced, that
# answers texts of three kinds by turns. Nobody else's programs are seen beside it, and nothing is left running. Needs
# bash, and `build`, `tracer`, `model` and `work`, a folder of the caller's own, which is removed.
# shellcheck shell=bash disable=SC2034,SC2154

export LLAMA_EXPERT_TRACE_LIVE=$work/live
mkdir -m 700 "$LLAMA_EXPERT_TRACE_LIVE"

started=()
# Those that ask llama-server before itself: 0.7.0 may not end while it answers.
clean_up() {
    local i
    for ((i = ${#started[@]} - 1; i >= 0; i--)); do
        kill "${started[i]}" 2>/dev/null || true
    done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# wait_for LOG TEXT: until the log of what was started last has the text; stops if that has ended.
wait_for() {
    until grep -q "$2" "$work/$1.log"; do
        kill -0 "$last" 2>/dev/null || { cat "$work"/*.log >&2; exit 1; }
        sleep 0.2
    done
}

# start LOG COMMAND...: in the background, until this script ends; `last` is its process.
start() {
    local log=$work/$1.log
    shift
    "$@" </dev/null >"$log" 2>&1 &
    last=$!
    started+=("$last")
}

# start_live_server: when it answers; `server` is its process, and `server_command` how it was started.
start_live_server() {
    local port
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    server_command=("$tracer" run --quiet -- "$build/engine/bin/llama-server" -m "$model" -t 1 -np 3 -c 6144
        --port "$port")
    start server "${server_command[@]}"
    server=$last
    start talk python3 "$(dirname "${BASH_SOURCE[0]}")/talk-to-server.py" "$port"
    wait_for talk .
}
