#!/usr/bin/env bash
# What tracing costs on an NVIDIA card, and whether llama.cpp's CUDA graphs and
# fused routing live on: builds llama.cpp 0.5.0 for this card, writes the full
# shapes of real models, measures them wholly on the card and with the experts
# of half the layers on the CPU, and writes docs/performance-gpu.md.
#
# usage: gpu.sh [OPTION]... [STEP]...
#
# STEPs are source, build, models, measure and report; without one, all of
# them. What is done already is not done again, and after LIMIT seconds it stops
# with status 75: run the same again then, it goes on where it stopped.
#
#   --source PATH    llama.cpp 0.5.0: its source tree, or a git bundle of it;
#                    default: scripts/fetch-source.sh, which needs the network
#   --work DIR       where all of it is made (default: build/gpu)
#   --kinds KINDS    what oracle-model shall write, by commas
#                    (default: full-qwen3-30b-a3b,full-gpt-oss-120b)
#   --seconds N      what one table may take (default: 60)
#   --limit N        (default: 540)
#   --page FILE      (default: docs/performance-gpu.md)
#   --cpu            without a card: the same on the CPU, to try this script
#
# Needed are nvcc, cmake 3.22, a C and C++ compiler, make and Python 3.9.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/../scripts/common.sh"

exec 3>&2 # where stderr goes to a log, the person still hears
again=75
work=$repo/build/gpu
source=
kinds=full-qwen3-30b-a3b,full-gpt-oss-120b
seconds=60
limit=540
page=$repo/docs/performance-gpu.md
card=yes
steps=()

# Layers whose experts go to the CPU in the second table: half of the model's.
declare -A half=([full-qwen3-30b-a3b]=24 [full-gpt-oss-120b]=18 [full-qwen3-next-80b]=24 [full-mixtral-8x7b]=16)

usage() {
    sed -n '/^# usage/,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case $1 in
        --source|--work|--kinds|--seconds|--limit|--page)
            [ $# -ge 2 ] || usage
            declare "${1#--}=$2"
            shift
            ;;
        --cpu) card= ;;
        source|build|models|measure|report) steps+=("$1") ;;
        *) usage ;;
    esac
    shift
done
[ ${#steps[@]} -gt 0 ] || steps=(source build models measure report)
IFS=, read -ra kinds <<<"$kinds"
work=$(make_folder "$work")
tree=$work/llama.cpp
build=$work/tracer
jobs=$(nproc)

# within COMMAND...: what cannot be done before the limit is left for the next time.
within() {
    local left=$((limit - SECONDS)) status=0
    [ "$left" -gt 0 ] || run_again
    timeout "$left" "$@" || status=$?
    [ "$status" -ne 124 ] || run_again
    return "$status"
}

run_again() {
    say "$limit seconds are over; run the same again, it goes on where it stopped" 2>&3
    exit "$again"
}

get_source() {
    [ ! -d "$tree" ] || return 0
    rm -rf "$tree.new"
    if [ -z "$source" ]; then
        within "$repo/scripts/fetch-source.sh" "$tree.new"
    elif [ -d "$source" ]; then
        mkdir "$tree.new"
        tar -C "$source" --exclude=./.git --exclude=./build -cf - . | tar -C "$tree.new" -xf -
    elif [ -f "$source" ]; then
        need git
        within git clone --quiet -c advice.detachedHead=false "$source" "$tree.new"
    else
        fail "--source $source is neither a folder nor a file"
    fi
    [ -e "$tree.new/ggml/src/ggml-cuda/topk-moe.cu" ] ||
        fail "${source:-what was fetched} is no source tree of llama.cpp 0.5.0"
    mv "$tree.new" "$tree"
}

# libllama and ggml alone; one card's code, and of the attention kernels those of the default cache type.
build_engine() {
    local options=(-DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON -DLLAMA_BUILD_COMMON=OFF -DLLAMA_BUILD_TESTS=OFF
                   -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_APP=OFF)
    if [ -n "$card" ]; then
        need nvcc
        # a shared CUDA runtime: cuda-launches stands in front of it
        options+=(-DGGML_CUDA=ON -DGGML_CUDA_GRAPHS=ON -DCMAKE_CUDA_ARCHITECTURES=native
                  -DCMAKE_CUDA_RUNTIME_LIBRARY=Shared -DGGML_CUDA_FA_QUANTS=f16-f16 -DGGML_CUDA_NCCL=OFF)
    fi
    say "building llama.cpp"
    quietly "$work/configure.log" within cmake -S "$tree" -B "$tree/build" "${options[@]}" ||
        fail "cmake could not configure llama.cpp; see above"
    within cmake --build "$tree/build" -j "$jobs" --target llama >"$work/build.log" 2>&1 || {
        tail -n 20 "$work/build.log" >&2
        fail "llama.cpp could not be built; see above, and $work/build.log"
    }
}

build_tracer() {
    local targets=(llama-expert-tracer bench-client oracle-model)
    [ -z "$card" ] || targets+=(cuda-launches)
    say "building the tracer"
    quietly "$work/tracer.log" within cmake -S "$repo" -B "$build" -DEXPERT_TRACER_COMMAND=OFF \
            -DEXPERT_TRACER_MODELS=ON -DEXPERT_TRACER_BENCH=ON -DEXPERT_TRACER_BENCH_ENGINE="$tree" ||
        fail "cmake could not configure the tracer; see above"
    quietly "$work/tracer.log" within cmake --build "$build" -j "$jobs" --target "${targets[@]}" ||
        fail "the tracer could not be built; see above"
}

write_models() {
    local kind model
    for kind in "${kinds[@]}"; do
        model=$work/$kind.gguf
        [ ! -e "$model" ] || continue
        say "writing $kind.gguf"
        within "$build/models/oracle-model" "$kind" "$model.new" || fail "oracle-model could not write $model"
        mv "$model.new" "$model"
        say "$kind.gguf: $(du -h --apparent-size "$model" | cut -f 1), $(du -h "$model" | cut -f 1) of it on the disk"
    done
}

# measure_one KIND N_CPU_MOE WHERE
measure_one() {
    local section=$work/$1-$2.md options=()
    [ ! -e "$section" ] || return 0
    [ -z "$card" ] || options=(--gpu-layers 99 --n-cpu-moe "$2")
    # a table, twice loading the model, and ten short runs for the launches
    [ $((limit - SECONDS)) -gt $((2 * seconds)) ] || run_again
    say "measuring $1, $3"
    PYTHONDONTWRITEBYTECODE=1 within python3 "$repo/bench/gpu.py" measure --build "$build" --model "$work/$1.gguf" \
        --name "$1, $3" --save "$section" --threads "$jobs" --seconds "$seconds" "${options[@]}" ||
        fail "$1 could not be measured; see above"
}

measure() {
    local kind
    for kind in "${kinds[@]}"; do
        if [ -n "$card" ]; then
            measure_one "$kind" 0 "wholly on the card"
            measure_one "$kind" "${half[$kind]:-1}" "experts of ${half[$kind]:-1} layers on the CPU"
        else
            measure_one "$kind" 0 "on the CPU"
        fi
    done
}

report() {
    local sections engine="llama.cpp 0.5.0, built here"
    mapfile -t sections < <(find "$work" -maxdepth 1 -name '*.md' | sort)
    [ ${#sections[@]} -gt 0 ] || fail "nothing was measured yet; the step before is measure"
    [ -z "$card" ] || engine+=" with CUDA $(nvcc --version | sed -n 's/.*release \([0-9.]*\).*/\1/p')"
    PYTHONDONTWRITEBYTECODE=1 python3 "$repo/bench/gpu.py" report --engine "$engine" --page "$page" "${sections[@]}"
    say "written to $page"
}

need cmake make timeout python3
for step in "${steps[@]}"; do
    case $step in
        source)  get_source ;;
        build)   build_engine; build_tracer ;;
        models)  write_models ;;
        measure) measure ;;
        report)  report ;;
    esac
done
