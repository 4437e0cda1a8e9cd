// The traces that are joined, in their order, and whether they fit together.

#pragma once

#include "base/text.h"
#include "trace/read/trace-index.h"

#include <jansson.h>

struct join_input {
    const char   * path;
    struct trace * trace;
    json_t       * end;       // NULL: the program still runs, or was killed
    uint64_t       first;     // number of its first ubatch
    bool           continues; // the trace of the input before
};

// Zeroed: none.
struct join_inputs {
    struct join_input * items;
    size_t              n;
    bool                is_one; // trace, which keeps its numbers
};

// A line for people, without its newline.
typedef void (* join_warn_fn)(const char * line);

// Returns false where they cannot be opened or do not fit together, and in `why` (to be freed) what to do. What was
// opened is to be closed all the same.
bool join_inputs_open (struct join_inputs * inputs, char ** paths, size_t n, join_warn_fn warn, struct text * why);
void join_inputs_close(struct join_inputs * inputs);

// Whether no part of its trace comes after it, and whether all parts of its trace from the first one on came before
// it.
bool join_inputs_is_last (const struct join_inputs * inputs, size_t i);
bool join_inputs_is_whole(const struct join_inputs * inputs, size_t i);
