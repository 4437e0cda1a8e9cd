// Calls a function in another process, in one of its threads that waits.

#pragma once

#include "inject/remote-thread.h"

#define REMOTE_CALL_MILLISECONDS 10000

// Room that nobody uses: behind the end of a library's code, and behind the end of another's data. Both libraries stay
// loaded as long as the process lives.
struct remote_caves {
    uint64_t code;
    uint64_t data;
};

struct remote_target {
    struct remote_process process;
    struct remote_objects objects;
    struct remote_unsafe  unsafe;
    struct remote_caves   caves;
    uint64_t              errno_location; // the C library's function
    bool                  takes_limited;  // threads that wait for a limited time, as no other is found
    bool                  is_busy;        // with a call that has not ended in time: it can make no other
};

// Finds the caves. What another injection has left there, whose own process has ended, is waited for and taken over.
bool remote_call_prepare(struct remote_target * target, struct error * error);

// Waits for its end, ten seconds at most. False, and why: `what` says what was done, as in "loading the library".
bool remote_call(struct remote_target * target, const char * what, uint64_t function,
                 const uint64_t arguments[PROCESSOR_ARGUMENTS], uint64_t * result, struct error * error);

// Gives the caves back as they were, if nothing is in them.
void remote_call_finish(struct remote_target * target);
