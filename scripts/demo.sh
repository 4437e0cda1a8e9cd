#!/usr/bin/env bash
# What tracing looks like: a stock llama-cli, a model whose routing is known on paper, the statistics.
set -euo pipefail
cd "$(dirname "$0")/.."

build=${BUILD:-build}
model=$build/models/oracle-mixtral.gguf
stats=$build/demo-stats.json

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

cat <<END

The statistics are in $stats.
Next, with a model and a program of your own:
  $build/llama-expert-tracer run --per-layer -o stats.json -- llama-server -m model.gguf
END
