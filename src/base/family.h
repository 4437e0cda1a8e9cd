// The files of one path: run.moetrace itself, its siblings run-2.moetrace, run-3.moetrace … of other processes, models
// and runs, the parts run-000000.moetrace, run-000001.moetrace … and run-2-000000.moetrace … of traces that are
// rotated, and what is written aside for any of them.

#pragma once

#include "base/file-kind.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FAMILY_NO_PART (-1)

struct family {
    int            directory;
    const char   * name;     // in it
    enum file_kind kind;
    bool           rotated;  // run-100000.moetrace is a part then, and a sibling otherwise
};

#define FAMILY_MEMBER_MORE 48 // bytes that a member's path takes more than the path, at the most, with its zero byte

// Writes the n-th sibling of a path or a name, 1: itself; a part of it, FAMILY_NO_PART: the whole. Returns false where
// there is no room for it.
bool family_member(char * member, size_t room, const char * path, int n, int64_t part);

struct family_last {
    int     n;    // the highest sibling that there is, at least 1
    int64_t part; // the highest part of the sibling that was asked for, FAMILY_NO_PART: there is none
};

// Looks through the folder. What a program that was killed has left behind aside is removed. Where the folder cannot
// be read there is nothing.
struct family_last family_look(const struct family * family, int n);

// Deletes the members that were written longest ago until all of them take `limit` bytes at the most. Not deleted are
// those whose owner lives, those of other users and those of another kind. Returns the bytes that the members take
// then.
uint64_t family_limit(const struct family * family, uint64_t limit);
