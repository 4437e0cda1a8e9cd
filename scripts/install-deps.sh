#!/usr/bin/env bash
# Installs the Debian packages that building (build), checking without an engine
# (check), HTML pages (page), measuring (bench), testing (test) or all of them (all, the default) need, or training the
# small model (train), or measuring what traces give away (privacy), or a picture of the terminal
# (picture). Whatever is already there, from wherever, counts; with nothing missing it does nothing.
set -eu

usage() {
    echo "usage: $(basename "$0") [build|check|page|bench|test|all|train|privacy|picture]" >&2
    exit 2
}

missing=()

# command_from PACKAGE COMMAND
command_from() {
    command -v "$2" >/dev/null || missing+=("$1")
}

# library_from PACKAGE NAME: NAME is what pkg-config calls it.
library_from() {
    pkg-config --exists "$2" 2>/dev/null || missing+=("$1")
}

# module_from PACKAGE MODULE: for a Python that is there, be it the system's.
module_from() {
    python3 -c "import $2" 2>/dev/null || /usr/bin/python3 -c "import $2" 2>/dev/null || missing+=("$1")
}

for_build() {
    command_from gcc cc
    command_from make make
    command_from cmake cmake
    command_from pkg-config pkg-config
    library_from libjansson-dev jansson
    library_from zlib1g-dev zlib
    library_from libmicrohttpd-dev libmicrohttpd
    library_from libncurses-dev ncursesw
    echo '#include <stdlib.h>' | cc -E - >/dev/null 2>&1 || missing+=(libc6-dev)
}

for_page() {
    command_from nodejs node
    command_from npm npm
}

for_bench() {
    command_from python3 python3
    command_from valgrind valgrind
    command_from zstd zstd
}

for_check() {
    for_build
    library_from libcmocka-dev cmocka
    command_from python3 python3
}

for_test() {
    for_bench
    for_page
    library_from libcmocka-dev cmocka
    command_from git git
    command_from curl curl
    command_from g++ c++
    command_from patch patch
    command_from musl-tools musl-gcc
    command_from chromium chromium
    command_from prometheus promtool
    module_from python3-numpy numpy
}

# PyTorch works with any BLAS, and is thirty times faster with this one.
for_train() {
    command_from python3 python3
    module_from python3-numpy numpy
    module_from python3-torch torch
    ldconfig -p | grep -q libopenblas || missing+=(libopenblas0-pthread)
}

for_privacy() {
    command_from python3 python3
    module_from python3-numpy numpy
    command_from nodejs node
    command_from npm npm
    command_from git git
}

for_picture() {
    command_from python3 python3
    command_from tmux tmux
    command_from aha aha
    command_from chromium chromium
}

case ${1:-all} in
    build) for_build ;;
    page)  for_page ;;
    bench) for_bench ;;
    check) for_check ;;
    test)  for_test ;;
    all)   for_build; for_test ;;
    train) for_train ;;
    privacy) for_privacy ;;
    picture) for_picture ;;
    *)     usage ;;
esac
[ $# -le 1 ] || usage
[ ${#missing[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "missing here: ${missing[*]} (Debian's names); install them with this system's package manager" >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "missing here; this installs it: sudo apt-get install -y --no-install-recommends ${missing[*]}" >&2
    exit 1
fi

echo "installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
