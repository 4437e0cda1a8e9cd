#!/bin/sh
# Makes one file of the library's sources, to be built into llama.cpp: src/llama-expert-tracer.c beside the public
# header. Headers stand where they are first included.
#
# usage: amalgamate.sh VERSION SOURCE... >llama-expert-tracer.c     (in the folder src/)
set -eu

version=$1
shift

cat <<END
// llama-expert-tracer $version: which experts a Mixture-of-Experts model routes every token to.
//
// One file made of the library's sources, to be built into llama.cpp. Not to be edited: edit the sources and make it
// again. SPDX-License-Identifier: MIT

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define EXPERT_TRACER_BUILT_IN
#define EXPERT_TRACER_VERSION "$version"

#include "llama-expert-tracer.h"
END

awk '
    function emit(path,    line, name) {
        if (path == "llama-expert-tracer.h" || path in seen) { # the public header stays a file of its own
            return
        }
        seen[path] = 1
        printf "\n//\n// %s\n//\n\n", path
        while ((status = (getline line < path)) > 0) {
            if (line ~ /^#include "/) {
                name = line
                sub(/^#include "/, "", name)
                sub(/".*$/, "", name)
                emit(name)
            } else if (line != "#pragma once") {
                print line
            }
        }
        if (status < 0) {
            print "amalgamate.sh: cannot read " path >"/dev/stderr"
            exit 1
        }
        close(path)
    }
    BEGIN {
        for (i = 1; i < ARGC; i++) {
            emit(ARGV[i])
        }
    }
' "$@"
