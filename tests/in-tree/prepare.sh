#!/usr/bin/env bash
# Builds llama.cpp 0.5.0 with the tracer in it, twice: as shared libraries of a tree that was integrated, and
# statically of one that nobody touched. Whatever is there already is built on.
#
# usage: prepare.sh BUILD
set -euo pipefail

repo=$(cd "$(dirname "$0")/../.." && pwd -P)
build=$(cd "$1" && pwd -P)
command=$build/llama-expert-tracer
source=$build/llama.cpp-0.5.0
work=$build/in-tree

programs=(llama-cli llama-completion llama-server llama-bench llama-perplexity)
# its own tests that need no network and have something to do with what the tracer stands between
own_tests=(test-llama-archs test-recurrent-state-rollback test-save-load-state test-model-load-cancel
           test-backend-sampler test-sampling test-batch-alloc test-tokenizer-0 test-grammar-parser test-log
           test-rope test-alloc test-gguf)
options=(-DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=OFF -DLLAMA_OPENSSL=OFF
         -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF)

# quietly NAME COMMAND...: its output goes to a log that is shown where it fails.
quietly() {
    local log=$work/$1.log
    shift
    "$@" >"$log" 2>&1 || { tail -n 40 "$log" >&2; exit 1; }
}

for release in 0.5.0 0.4.0 b9842; do
    "$repo/scripts/fetch-source.sh" "$build/llama.cpp-$release" "$release"
done
mkdir -p "$work"

echo "prepare.sh: building llama.cpp with the tracer in it, shared (minutes, the first time)" >&2
[ -d "$work/tree" ] || cp -a "$source" "$work/tree"
"$command" integrate "$work/tree" >/dev/null
quietly shared-configure cmake -S "$work/tree" -B "$work/shared" "${options[@]}"
quietly shared-build cmake --build "$work/shared" -j "$(nproc)" --target "${programs[@]}" "${own_tests[@]}"

echo "prepare.sh: building llama.cpp with the tracer in it, static" >&2
quietly static-configure cmake -S "$source" -B "$work/static" "${options[@]}" -DBUILD_SHARED_LIBS=OFF \
    "-DCMAKE_PROJECT_llama.cpp_INCLUDE=$("$command" integrate --cmake)"
quietly static-build cmake --build "$work/static" -j "$(nproc)" --target "${programs[@]}"
