#!/usr/bin/env bash
# Trains the small model: gathers its text, trains (or goes on where it was
# interrupted), writes BUILD/training/babel-11m.gguf, and prints its card's numbers.
# --card: prints the numbers of models/babel-11m.gguf alone.
#
# usage: train.sh [--card | options of training/train.py]
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"

folder=$(make_folder "${BUILD:-$repo/build}/training")
model=babel-11m.gguf
export PYTHONDONTWRITEBYTECODE=1

python=python3
"$python" -c 'import torch, numpy' 2>/dev/null || python=/usr/bin/python3

only_one "$folder"
"$python" "$repo/training/gather.py" "$folder"
if [ "${1:-}" = --card ]; then
    exec "$python" "$repo/training/evaluate.py" "$repo/models/$model" "$folder/text"
fi
"$python" "$repo/training/train.py" "$folder/text" "$folder" "$@"
"$python" "$repo/training/to_gguf.py" "$folder/checkpoint.pt" "$folder/$model"
"$python" "$repo/training/evaluate.py" "$folder/$model" "$folder/text" --checkpoint "$folder/checkpoint.pt"
