// A thread of the process that waits where a call may be made in its place.

#pragma once

#include "inject/inject-processor.h"
#include "inject/remote-unsafe.h"

struct remote_thread {
    pid_t                      tid;
    struct processor_registers registers;
};

// Stops one, which the caller lets go at once. The mappings are read anew. It tries for two seconds. `limited`: whether
// to take one that waits for a limited time; it becomes true when there has been no other for some time. False, and
// why.
bool remote_thread_stop(struct remote_process * process, const struct remote_unsafe * unsafe, bool * limited,
                        struct remote_thread * thread, struct error * error);

// A stopped thread that nothing was done with.
void remote_thread_let_go(const struct remote_thread * thread);
// One that processor_enter() has sent somewhere.
bool remote_thread_detach(const struct remote_thread * thread);

// Whether the thread, which has called nothing from the range of code, is not in it any more either, and no signal's
// handler will return to it: it waits elsewhere, or is gone. Waits for that, some milliseconds at most.
bool remote_thread_has_left(const struct remote_process * process, pid_t tid, const struct remote_range * code,
                            int milliseconds);
