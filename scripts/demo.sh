#!/usr/bin/env bash
# What tracing looks like: a stock llama-cli, a small model that was trained to route, its statistics; then texts of
# three kinds, their routing traces, and what follows from them.
set -euo pipefail
cd "$(dirname "$0")/.."

build=${BUILD:-build}
model=models/babel-11m.gguf
stats=$build/demo-stats.json
page=$build/demo.html
all=$build/demo.moetrace

kinds=(english german c)
declare -A prompts=(
    [english]='And it came to pass, when the king heard '
    [german]='Das Paket wird mit dem Befehl '
    [c]=$'static int\nread_file (const char *name)\n{\n'
)

traces=("${kinds[@]/#/$build/demo-}")
traces=("${traces[@]/%/.moetrace}")

# announce COMMAND...: prints a command as one would type it.
announce() {
    local word words=()
    for word in "$@"; do
        [[ $word =~ ^[A-Za-z0-9_./,:=+-]+$ ]] || word="'$word'"
        words+=("$word")
    done
    printf '\n$ %s\n' "${words[*]}"
}

# show COMMAND...: prints it and runs it.
show() {
    announce "$@"
    "$@"
}

# Debian's engine looks for its backends in a folder that is only there once it is installed, and says so.
without_search_noise() {
    grep -v 'failed to enumerate' >&2 || true
}

# record KIND: the trace of a text, and the beginning of what the model made of it.
record() {
    local trace=$build/demo-$1.moetrace text=$build/demo-$1.txt log=$build/demo-$1.log
    local command=("$build/llama-expert-tracer" run --routing "$trace" --
        "$build/engine/bin/llama-completion" -m "$model" -p "${prompts[$1]}" -n 900 -no-cnv --ignore-eos
        --temp 0.6 --seed 3 -t 1)
    rm -f "$trace"
    announce "${command[@]}"
    "${command[@]}" </dev/null >"$text" 2>"$log" || { cat "$log" >&2; exit 1; }
    head -c 400 "$text" | iconv -c -t UTF-8 | fold -s -w 100 | head -n 8
    printf '…\n'
    grep 'Routing trace' "$log"
}

printf 'A stock llama.cpp program, nothing patched and nothing recompiled:\n'
show "$build/llama-expert-tracer" check "$build/engine/bin/llama-cli"

printf '\nThe model has 8 layers of 32 experts, and was trained on texts of seven kinds (models/babel-11m.md).\n'
{
    show "$build/llama-expert-tracer" run --stats --output "$stats" -- \
        "$build/engine/bin/llama-cli" -m "$model" -p "${prompts[english]}" -n 100 -st \
        --temp 0.6 --seed 3 -t 1 </dev/null
} 2> >(without_search_noise)
wait $! # for the last lines

show "$build/llama-expert-tracer" show --top 10 "$stats"

printf '\nEvery decision of three texts, on record:\n'
for kind in "${kinds[@]}"; do
    record "$kind"
done

printf '\nDo they use other experts?\n'
show "$build/llama-expert-tracer" compare "${traces[@]}"

printf '\nWhat the three mean together:\n'
show "$build/llama-expert-tracer" cat "${traces[@]}" -o "$all"
page_option=(--html "$page")
"$build/llama-expert-tracer" cache --html /dev/null "$all" >/dev/null 2>&1 || page_option=()
show "$build/llama-expert-tracer" report "${page_option[@]}" "$all"
show "$build/llama-expert-tracer" cache --vram 4MiB "$all"
show "$build/llama-expert-tracer" predict "$all"

printf '\nA server that runs is seen, and steered, at no cost to it:\n'
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$build/llama-expert-tracer" run --quiet -- "$build/engine/bin/llama-server" -m "$model" -t 1 -np 2 -c 2048 \
    --port "$port" </dev/null >"$build/demo-server.log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT
python3 scripts/ask-server.py "$port" "${prompts[english]}"
show "$build/llama-expert-tracer" ps
show "$build/llama-expert-tracer" ctl "$server" status
kill "$server"
wait "$server" 2>/dev/null || true
trap - EXIT

cat <<END

The statistics are in $stats, the traces in $build/demo*.moetrace${page_option:+, the page in $page}.
Next, with a model and a program of your own:
  $build/llama-expert-tracer run --per-layer -o stats.json --routing run.moetrace -- llama-server -m model.gguf
  $build/llama-expert-tracer report --html report.html run.moetrace
While it runs:
  $build/llama-expert-tracer ps
END
