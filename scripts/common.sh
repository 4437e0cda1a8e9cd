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

# npm_pack PACKAGE@VERSION FOLDER: downloads a package of npm's and prints where
# it is, if it is the one that scripts/npm-packages.txt names.
npm_pack() {
    local package=$1 folder wanted file found
    wanted=$(awk -v package="$package" '$1 == package { print $2 }' "$repo/scripts/npm-packages.txt")
    [ -n "$wanted" ] || fail "no hash of $package in scripts/npm-packages.txt"
    folder=$(mktemp -d "$2/pack.XXXXXX")
    quietly "$folder/log" npm pack "$package" --pack-destination "$folder" --ignore-scripts --loglevel=error \
            --fetch-retries=1 ||
        fail "npm could not download $package; see above, then run this again"
    file=$(compgen -G "$folder/*.tgz") || fail "npm downloaded no $package"
    found=$(node -e 'const { createHash } = require("crypto"), { readFileSync } = require("fs");
                     const hash = createHash("sha512").update(readFileSync(process.argv[1]));
                     console.log("sha512-" + hash.digest("base64"))' "$file")
    [ "$found" = "$wanted" ] ||
        fail "$package is not the one that was tested: its hash is $found, in scripts/npm-packages.txt it is $wanted"
    echo "$file"
}

# seal FOLDER: it is whole, and is what is_whole finds.
seal() {
    list_files "$1" >"$1/.files"
}

# is_whole FOLDER: it was sealed, and all its files have the sizes of then. What
# an interrupted run, a full disk or somebody's hand left behind is not.
is_whole() {
    [ -f "$1/.files" ] && [ "$(list_files "$1")" = "$(cat "$1/.files")" ]
}

list_files() {
    (cd "$1" && find . -type f ! -path ./.files ! -name .lock -printf '%p %s\n' | LC_ALL=C sort)
}
