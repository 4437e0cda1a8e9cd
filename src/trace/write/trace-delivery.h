// Brings the chunks of a routing trace to its file, begins the next part where that is asked for, and keeps the sums.

#pragma once

#include "base/log.h"
#include "trace/write/trace-file.h"
#include "trace/write/trace-json-writer.h"

struct trace_delivery {
    struct trace_about  about;       // with what is fixed
    char                trace[64];   // its name, in `about`
    uint64_t            rotate_size; // see struct trace_options
    double              rotate_time;
    uint64_t            limit;
    const int         * descriptor;  // likewise
    log_fn              say;         // where the next part cannot be made, or the file is not what it was

    char              * base;        // the path that was wanted, absolute
    struct trace_file   file;
    char              * first_path;  // of the first part, NULL: there is one file
    uint64_t            size_before; // of all parts before
    int64_t             first_time;  // that the file tells of
    bool                has_data;    // the file tells of something
    bool                cannot_rotate; // and that was said
    bool                cannot_follow; // the file was moved, and there can be no other one; and that was said
    bool                is_at_limit;   // and there is nothing left to delete
    struct text         tables;      // all chunks of layers, for the parts to come
    uint32_t            n_tables;
    struct trace_counts counts;      // that are on the disk, or lost at the end
};

// Makes the first file. `about`, `rotate_size`, `rotate_time`, `limit`, `descriptor` and `say` are set, all else is
// zero. Returns 0, or -errno: see claim_new().
int trace_delivery_open(struct trace_delivery * delivery, const char * path);

// Returns 0, or -errno: the file is as it was then, and the chunk may be brought again. Where somebody has deleted,
// replaced or truncated the file a new one is begun first.
int trace_delivery_bring(struct trace_delivery * delivery, struct ring_chunk * chunk, uint64_t waited_ms);

// Writes what is not recorded of those that are not told of yet, and how the trace ended. Returns 0, or -errno.
int trace_delivery_end(struct trace_delivery * delivery, const struct trace_gap * gaps,
                       const struct trace_closing * ending);

// Bytes of all parts.
uint64_t trace_delivery_size(const struct trace_delivery * delivery);
void     trace_delivery_free(struct trace_delivery * delivery);

// Adds what one counts to the other.
void trace_counts_add(struct trace_counts * counts, const struct trace_counts * more);

// Ubatches that are told of, recorded or not.
uint64_t trace_counts_told(const struct trace_counts * counts);

int64_t trace_now(void); // microseconds since 1970
