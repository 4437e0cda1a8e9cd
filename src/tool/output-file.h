// Where a command writes to: a file that appears whole or not at all, or the standard output.
//
// A new file is made, and an empty one or one of the same kind is replaced (src/base/file-kind.h); anything else stays
// unless it is forced, and what the command reads stays even then. A device or a pipe is written to. What a run that
// was killed left behind beside the file is removed by the next one.

#pragma once

#include "base/file-kind.h"
#include "base/place.h"
#include "tool/error.h"

#include <stdbool.h>
#include <stdio.h>

struct output_file {
    FILE         * out;      // NULL: finished
    char         * path;     // as it was given, NULL: the standard output
    char         * aside;    // its name until it is published; NULL: written in place, as a device or a pipe is
    struct place   place;    // where it is to be
    enum file_kind kind;
    bool           force;
    bool           replaces; // what was there when it was opened
};

// An input, "-" being the standard input: no output replaces it from now on.
void output_file_protect(const char * path);

// `path` NULL or "-": the standard output. The file may be read by its owner alone: traces tell what a model was
// asked.
bool output_file_open   (struct output_file * file, const char * path, enum file_kind kind, bool force,
                         struct error * error);

// Whether it could be opened now, for who works long before.
bool output_file_check  (const char * path, enum file_kind kind, bool force, struct error * error);

// Writes what is still to be written. False where not all of it arrived; the file is as it was before then.
bool output_file_close  (struct output_file * file, struct error * error);

// The same in two steps, for several files that belong together: what is finished is whole, and takes its place when
// it is published. After a failure of either the file is as it was before, and needs no dropping.
bool output_file_finish (struct output_file * file, struct error * error);
bool output_file_publish(struct output_file * file, struct error * error);

// Leaves it as it was before.
void output_file_drop   (struct output_file * file);
