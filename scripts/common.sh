# Sourced by the fetch scripts: how they speak, fail and keep out of each
# other's way. Needs bash.
# shellcheck shell=bash disable=SC2034

me=$(basename "$0" .sh)
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

say() {
    printf '%s: %s\n' "$me" "$*" >&2
}

fail() {
    say "$*"
    exit 1
}

# need COMMAND...: stops unless every command is there.
need() {
    local command
    for command in "$@"; do
        command -v "$command" >/dev/null ||
            fail "'$command' is missing; run scripts/install-deps.sh, or install it"
    done
}

# make_folder PATH: creates the folder and prints its absolute path.
make_folder() {
    mkdir -p "$1" || fail "cannot create the folder $1"
    (cd "$1" && pwd -P)
}

# only_one FOLDER: waits until no other run works in FOLDER, then goes on.
only_one() {
    need flock
    exec 9>"$1/.lock"
    if ! flock -n 9; then
        say "waiting for another run in $1"
        flock 9
    fi
}

# quietly LOG COMMAND...: runs the command, shows its output only if it fails.
quietly() {
    local log=$1
    shift
    "$@" >"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        return 1
    }
}
