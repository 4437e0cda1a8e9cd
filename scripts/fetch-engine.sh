#!/usr/bin/env bash
# Puts stock llama.cpp programs into DEST/bin (default: build/engine/bin):
# programs that nobody here built, for the demo, the tests and the benchmark.
#
# usage: fetch-engine.sh [DEST]
#
# They come from the first of these that is there:
#   LLAMA_CPP_BIN=DIR   a llama.cpp build of your own, e.g. ~/llama.cpp/build/bin
#   this system         all programs on PATH, or packaged by its distribution
#   Debian's packages   of the suite forky, unpacked into DEST/forky; no root,
#                       nothing outside DEST is touched, signatures are checked
#
# DEST/bin is a link to the chosen set and is made last, so it is there only
# when it is whole. To get a newer release: remove DEST and run this again.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"

suite=forky
packages=(llama.cpp-tools llama.cpp-tools-extra llama.cpp-examples llama.cpp-tests
          libggml0-backend-rpc libllama-dev libggml-dev)
programs=(llama-cli llama-completion llama-server llama-bench llama-imatrix
          llama-perplexity llama-quantize llama-eval-callback llama-simple
          llama-parallel llama-speculative-simple ggml-rpc-server test-llama-archs)

# --- programs that are on this machine already --------------------------------

# programs_in FOLDER...: prints the paths of llama.cpp's programs in there.
programs_in() {
    find -L "$@" -maxdepth 1 -type f -perm -u+x \
        \( -name 'llama-*' -o -name 'test-*' -o -name '*rpc-server' \) 2>/dev/null || true
}

# link_programs PATH...: DEST/linked becomes a folder of links to these.
link_programs() {
    local program
    rm -rf "$dest/linked.new"
    mkdir "$dest/linked.new"
    for program in "$@"; do
        ln -sfn "$program" "$dest/linked.new/$(basename "$program")"
    done
    # ggml-rpc-server was called rpc-server before 2026.
    if [ ! -e "$dest/linked.new/ggml-rpc-server" ] && [ -e "$dest/linked.new/rpc-server" ]; then
        ln -s rpc-server "$dest/linked.new/ggml-rpc-server"
    fi
    if [ "$(links_in "$dest/linked.new")" = "$(links_in "$dest/linked")" ]; then
        rm -rf "$dest/linked.new"
        return
    fi
    rm -rf "$dest/linked"
    mv "$dest/linked.new" "$dest/linked"
}

links_in() {
    find "$1" -type l -printf '%f %l\n' 2>/dev/null | sort
}

missing_in() {
    local program
    for program in "${programs[@]}"; do
        [ -x "$1/$program" ] || echo "$program"
    done
}

use_own_build() {
    local own missing found
    own=$(cd "$LLAMA_CPP_BIN" 2>/dev/null && pwd -P) ||
        fail "LLAMA_CPP_BIN=$LLAMA_CPP_BIN is not a folder"
    mapfile -t found < <(programs_in "$own")
    [ ${#found[@]} -gt 0 ] ||
        fail "no llama.cpp programs in LLAMA_CPP_BIN=$LLAMA_CPP_BIN; it should hold llama-cli and its kin"
    link_programs "${found[@]}"
    missing=$(missing_in "$dest/linked" | xargs)
    [ -z "$missing" ] || say "not in $own: $missing"
    choose linked "$own"
}

# use_system: succeeds when every program is on PATH or where Debian puts it.
use_system() {
    local program path found=()
    for program in "${programs[@]}"; do
        path=$(command -v "$program" || find /usr/libexec/*/llama/bin /usr/libexec/*/llama.cpp-tests \
                   -name "$program" 2>/dev/null | head -n 1)
        [ -n "$path" ] || return 1
        path=$(readlink -f "$path")
        case $path in
            "$dest"/*) return 1 ;;      # DEST/bin itself is on PATH
        esac
        found+=("$path")
    done
    link_programs "${found[@]}"
    choose linked "this system"
}

# offered_by_system: the distribution has the packages itself.
offered_by_system() {
    local candidates
    candidates=$(LC_ALL=C apt-cache policy "${packages[@]}" 2>/dev/null |
                     grep -c 'Candidate: [^(]') || true
    [ "${candidates:-0}" -eq ${#packages[@]} ]
}

install_on_system() {
    say "installing ${packages[*]}"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        "${packages[@]}" >/dev/null ||
        fail "apt-get could not install ${packages[*]}"
}

# --- Debian's packages, unpacked in a folder of ours --------------------------

debian_keyring() {
    local keyring
    for keyring in /usr/share/keyrings/debian-archive-keyring.{pgp,gpg}; do
        if [ -e "$keyring" ]; then
            echo "$keyring"
            return
        fi
    done
    fail "no keyring to check Debian's signatures with; install debian-archive-keyring, or set LLAMA_CPP_BIN"
}

# The mirror this machine's own apt uses. Before its first update apt cannot
# tell whose an address is; its usual ending does.
debian_mirror() {
    # shellcheck disable=SC2016 # apt fills these in
    {
        apt-get indextargets --format '$(REPO_URI) $(ORIGIN)/$(LABEL)'
        apt-get indextargets --no-release-info --format '$(REPO_URI)'
    } | awk '
        $2 == "Debian/Debian" && !known { known = $1 }
        $1 ~ /\/debian\/?$/ && !likely  { likely = $1 }
        END                             { print known ? known : likely }'
}

# An apt of our own: it sees one suite and an empty system, so that it fetches
# the C library and all else these programs need.
prepare_apt() {
    local apt=$1 mirror=$2 keyring
    keyring=$(debian_keyring)
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    : >"$apt/status"
    echo "deb [signed-by=$keyring] $mirror $suite main" >"$apt/sources.list"
    cat >"$apt/apt.conf" <<EOF
Dir::State "$apt";
Dir::State::lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::State::extended_states "$apt/extended_states";
Dir::Cache "$apt/cache";
Dir::Cache::archives "$apt/cache/archives";
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Update::Error-Mode "any";
APT::Default-Release "";
APT::Install-Recommends "false";
APT::Sandbox::User "";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Install-Pkgs;
EOF
}

download() {
    local apt=$1 mirror ours
    ours=(apt-get -c "$apt/apt.conf" -qq -y)
    mirror=${DEBIAN_MIRROR:-$(debian_mirror)}
    [ -n "$mirror" ] ||
        fail "this machine's apt knows no Debian mirror; set DEBIAN_MIRROR to one," \
             "or LLAMA_CPP_BIN to a build of llama.cpp"
    prepare_apt "$apt" "$mirror"
    say "asking Debian's suite $suite for llama.cpp"
    quietly "$apt/log" "${ours[@]}" update ||
        fail "apt could not read the suite $suite from $mirror; see above"
    quietly "$apt/log" "${ours[@]}" install --print-uris "${packages[@]}" patchelf ||
        fail "the suite $suite does not offer these packages together: ${packages[*]}; see above"
    say "downloading $(awk '/_.*\.deb/ { n++; bytes += $3 }
                            END { printf "%d packages, %.0f MB", n, bytes / 1e6 }' "$apt/log")"
    quietly "$apt/log" "${ours[@]}" install --download-only "${packages[@]}" patchelf ||
        fail "a download failed; see above. Run this again, it goes on where it stopped"
}

unpack() {
    local apt=$1 root=$2 package
    say "unpacking"
    rm -rf "$root.partial"
    mkdir "$root.partial"
    for package in "$apt"/cache/archives/*.deb; do
        dpkg-deb -x "$package" "$root.partial" || fail "cannot unpack $package"
    done
    rm -rf "$root"
    mv "$root.partial" "$root"
}

# make_runnable ROOT BIN: copies the programs of ROOT to BIN and makes the
# copies use ROOT's loader and libraries, whatever this machine's are. Shared
# libraries stay as shipped.
#
# Starting them through ROOT's loader would need no copies, but then
# /proc/self/exe is the loader, and llama-server's router mode starts its
# children from there.
#
# An rpath alone is not enough: some libraries carry a runpath of their own
# (/usr/lib/*/llama), and the loader then ignores the program's rpath for what
# they need. So the program itself names every library; those loaded already
# are not searched again.
make_runnable() {
    local root=$1 bin=$2
    local loader libs library_path shipped program copy library needed add
    loader=$(compgen -G "$root/usr/lib/*/ld-linux*.so.*" | head -n 1) ||
        fail "no loader in $root; remove $dest and run this again"
    libs=$(dirname "$loader")
    library_path=$libs:$libs/llama

    say "making the programs run here"
    rm -rf "$bin.partial" "$bin"
    mkdir "$bin.partial"
    patch() {
        "$loader" --library-path "$libs" "$root/usr/bin/patchelf" "$@"
    }
    mapfile -t shipped < <(programs_in "$root"/usr/bin "$root"/usr/libexec/*/llama/bin \
                                       "$root"/usr/libexec/*/llama.cpp-tests)
    for program in "${shipped[@]}"; do
        copy=$bin.partial/$(basename "$program")
        needed=" $(patch --print-needed "$program" | xargs) "
        add=()
        for library in $("$loader" --library-path "$library_path" --list "$program" |
                             awk '$2 == "=>" && $1 !~ "/" { print $1 }'); do
            case $needed in
                *" $library "*) ;;
                *) add+=(--add-needed "$library") ;;
            esac
        done
        cp "$program" "$copy"
        patch --set-interpreter "$loader" --force-rpath --set-rpath "$library_path" \
              "${add[@]}" "$copy" || fail "patchelf could not change $copy"
    done
    # Backends are looked for in the folder of the running program.
    ln -s "$libs"/ggml/backends*/*.so "$bin.partial"
    mv "$bin.partial" "$bin"
}

use_debian_packages() {
    local forky=$dest/forky
    need apt-get dpkg-deb find awk
    mkdir -p "$forky"
    if [ ! -e "$forky/root/usr/include/llama.h" ]; then
        download "$forky/apt"
        unpack "$forky/apt" "$forky/root"
    fi
    rm -rf "$forky/apt"
    make_runnable "$forky/root" "$forky/bin"
    quietly "$forky/version" "$forky/bin/llama-cli" --version ||
        fail "llama-cli does not start; see above"
    echo "$forky" >"$forky/made-for"
    choose_debian_packages
}

choose_debian_packages() {
    choose forky/bin "llama.cpp $(sed -n 's/^version: //p' "$dest/forky/version") of Debian's $suite"
}

# The programs hold absolute paths, so a moved DEST is made anew from its root.
# A root without llama.cpp's headers was unpacked before the benchmark needed
# them: that one is fetched again.
debian_packages_ready() {
    [ "$(cat "$dest/forky/made-for" 2>/dev/null)" = "$dest/forky" ] &&
        [ -e "$dest/forky/root/usr/include/llama.h" ]
}

# --- the choice ---------------------------------------------------------------

# choose FOLDER ORIGIN: DEST/bin leads to FOLDER from now on.
choose() {
    [ "$(readlink "$dest/bin")" = "$1" ] && [ "$(cat "$dest/origin" 2>/dev/null)" = "$2" ] && return
    if [ -d "$dest/bin" ] && [ ! -L "$dest/bin" ]; then
        rm -rf "${dest:?}/bin"
    fi
    ln -sfn "$1" "$dest/bin.new"
    mv -T "$dest/bin.new" "$dest/bin"
    echo "$2" >"$dest/origin"
    say "$dest/bin: $2"
}

dest=$(make_folder "${1:-$repo/build/engine}")

if [ -n "${LLAMA_CPP_BIN:-}" ]; then
    only_one "$dest"
    use_own_build
    exit
fi
if [ "$(readlink "$dest/bin" || true)" = forky/bin ] && debian_packages_ready; then
    exit
fi

only_one "$dest"
if debian_packages_ready; then
    choose_debian_packages
elif use_system; then
    :
elif offered_by_system && [ "$(id -u)" -eq 0 ]; then
    install_on_system
    use_system || fail "the packages are installed, but not all programs were found: ${programs[*]}"
else
    ! offered_by_system ||
        say "unpacking a private copy; for a shared one: sudo apt-get install ${packages[*]}"
    use_debian_packages
fi
