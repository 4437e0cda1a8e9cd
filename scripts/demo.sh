#!/usr/bin/env bash
# What tracing looks like: a stock llama-cli, a model whose routing is known on paper, its statistics, its routing
# trace, and what follows from that.
set -euo pipefail
cd "$(dirname "$0")/.."

build=${BUILD:-build}
model=$build/models/oracle-mixtral.gguf
stats=$build/demo-stats.json
trace=$build/demo.moetrace
page=$build/demo.html

# show COMMAND...: prints a command as one would type it, and runs it.
show() {
    printf '\n$ %s\n' "$*"
    "$@"
}

# Debian's engine looks for its backends in a folder that is only there once it is installed, and says so.
without_search_noise() {
    grep -v 'failed to enumerate' >&2 || true
}

printf 'A stock llama.cpp program, nothing patched and nothing recompiled:\n'
show "$build/llama-expert-tracer" check "$build/engine/bin/llama-cli"

printf '\nThe model has the layers, experts and top-k of Mixtral-8x7B and a routing that is known on paper.\n'
{
    show "$build/llama-expert-tracer" run --stats --output "$stats" -- \
        "$build/engine/bin/llama-cli" -m "$model" -p 'test' -n 16 -st -t 1 --no-warmup </dev/null
} 2> >(without_search_noise)
wait $! # for the last lines

show "$build/llama-expert-tracer" show --top 10 "$stats"

printf '\nEvery decision of a longer text, on record:\n'
rm -f "$trace"
{
    show "$build/llama-expert-tracer" run --routing "$trace" -- \
        "$build/engine/bin/llama-completion" -m "$model" -p "$(head -c 400 docs/architecture.md)" -n 400 -no-cnv -t 1 --no-warmup -c 2048 \
        </dev/null >/dev/null
} 2> >(grep 'EXPERT-TRACE' >&2 || true)
wait $!

page_option=(--html "$page")
"$build/llama-expert-tracer" cache --html /dev/null "$trace" >/dev/null 2>&1 || page_option=()
show "$build/llama-expert-tracer" report "${page_option[@]}" "$trace"
show "$build/llama-expert-tracer" cache --vram 8MiB --pcie 25GB/s --ram 60GB/s --tg 1000 "$trace"

cat <<END

The statistics are in $stats, the trace in $trace${page_option:+, the page in $page}.
Next, with a model and a program of your own:
  $build/llama-expert-tracer run --per-layer -o stats.json --routing run.moetrace -- llama-server -m model.gguf
  $build/llama-expert-tracer report --html report.html run.moetrace
END
