// How a routing trace is to be written: from the settings (src/tracer/config.h) or a command, for the writer.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct trace_options {
    const char * path;        // with %p and %m filled in
    const char * folder;      // that it is relative to, NULL: the current one
    bool         weights;     // gate weights
    bool         tokens;      // token ids
    bool         wait;        // for the disk, however long it takes
    size_t       buffer;      // bytes
    uint64_t     rotate_size; // bytes of a file, 0: no limit
    double       rotate_time; // seconds that a file tells of, 0: no limit
    uint64_t     sample;      // one batch in so many, 1: all
    uint64_t     seed;        // of the choice (trace-sampling.h), 0: a new one
    uint64_t     keep;        // bytes of all files of this path, the oldest are deleted; 0: no limit
    const int  * descriptor;  // an empty file that the caller has open: that is written, `path` is its name in
                              // messages. NULL: `path` is claimed
    bool         is_foreign;  // the routing is not of this process: no model's file is read
};
