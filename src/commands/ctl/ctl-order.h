// What `ctl` asks a running tracer for, and what came of it.

#pragma once

#include "live/live-client.h"
#include "live/live-status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ctl_verb {
    CTL_STATUS, CTL_START, CTL_STOP, CTL_RESET, CTL_DUMP, CTL_RECORD, CTL_RECORD_STOP, CTL_NAMES, CTL_INTERVAL,
    N_CTL_VERBS,
};

struct ctl_order {
    enum ctl_verb verb;
    const char  * file;        // of CTL_DUMP and CTL_RECORD, as it was given
    const char  * model;       // a number or a name, NULL: the only one
    bool          force;       // the file replaces what is there
    bool          weights;
    bool          tokens;
    bool          on;          // of CTL_NAMES
    double        interval;    // seconds
    double        rotate_size; // bytes, 0: not chosen, like the next two
    double        rotate_time; // seconds
    double        keep;        // bytes
};

// From which ubatch on a context does what was asked for.
struct ctl_hold {
    uint64_t model;
    uint64_t context;
    int64_t  ubatch; // -1: the first of its next batch
};

struct ctl_result {
    size_t               n_holds;
    struct ctl_hold    * holds;
    bool                 has_holds; // of a verb that holds from a ubatch on
    uint64_t             bytes;     // of CTL_DUMP
    char               * path;      // the file, as it is called now; NULL: none
    struct live_status * status;    // of CTL_STATUS
};

// False, and why, where it was not done.
bool ctl_order_do   (const struct ctl_order * order, const struct live_client * client, struct ctl_result * result,
                     struct error * error);
void ctl_result_free(struct ctl_result * result);
