// Writes the stub into room that nobody uses, sends a thread to it, and lets go. From then on the thread finds its way
// back alone.

#include "inject/remote-call.h"

#include "tool/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <time.h>
#include <unistd.h>

#define MAGIC              UINT64_C(0x726574636572746c) // of a cave with data of ours
#define PAGE               ((uint64_t) 4096)
#define ALIGNMENT          ((uint64_t) 64)
#define LEAVE_MILLISECONDS 50
#define LEAVE_TRIES        40

//
// caves
//

// The first place behind a segment where as much fits before its page ends. 0: there is none.
static uint64_t room_behind(const struct remote_segment * segment, size_t size) {
    const uint64_t start = (segment->end + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
    const uint64_t end   = (segment->end + PAGE - 1) & ~(PAGE - 1);
    return start < end && end - start >= size ? start : 0;
}

static bool is_zero(const unsigned char * bytes, size_t size) {
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

// Zeros, or what we have left there.
static bool is_free(const struct remote_process * process, uint64_t address, size_t size, const void * ours,
                    size_t n_ours) {
    unsigned char bytes[PROCESSOR_STUB_SIZE];
    return remote_read(process, address, bytes, size)
        && (is_zero(bytes, size) || memcmp(bytes, ours, n_ours) == 0);
}

static uint64_t find_code(const struct remote_process * process, const struct remote_object * object) {
    const struct processor_registers none = { 0 };
    unsigned char                    stub[PROCESSOR_STUB_SIZE];
    processor_stub_fill(stub, &(struct processor_task) { 0 }, &none);
    for (size_t i = 0; i < object->n_segments; i++) {
        const struct remote_segment * segment = &object->segments[i];
        const uint64_t                address = room_behind(segment, processor_stub_size());
        const struct remote_mapping * mapping = address == 0 ? NULL : remote_mapping_at(process, address);
        if (segment->can_execute && mapping != NULL && mapping->can_execute && mapping->is_private
                && is_free(process, address, processor_stub_size(), stub, processor_stub_constant())) {
            return address;
        }
    }
    return 0;
}

// Neither the program's, behind which the heap may begin at once, nor the linker's, whose own malloc begins there.
static uint64_t find_data(const struct remote_process * process, const struct remote_object * object) {
    const uint64_t magic = MAGIC;
    if (object->is_program || object->name[0] == '\0' || strncmp(object->name, "ld-linux", strlen("ld-linux")) == 0) {
        return 0;
    }
    for (size_t i = 0; i < object->n_segments; i++) {
        const struct remote_segment * segment = &object->segments[i];
        const uint64_t                address = room_behind(segment, sizeof(struct processor_data));
        const struct remote_mapping * mapping = address == 0 ? NULL : remote_mapping_at(process, address);
        if (segment->can_write && mapping != NULL && mapping->can_write && mapping->is_private
                && is_free(process, address, sizeof(struct processor_data), &magic, sizeof(magic))) {
            return address;
        }
    }
    return 0;
}

static void find_caves(struct remote_target * target) {
    const struct remote_objects * objects = &target->objects;
    target->caves = (struct remote_caves) { 0, 0 };
    for (size_t i = 0; i < objects->n; i++) {
        if (!objects->all[i].is_permanent) {
            continue;
        }
        if (target->caves.code == 0) {
            target->caves.code = find_code(&target->process, &objects->all[i]);
        }
        if (target->caves.data == 0) {
            target->caves.data = find_data(&target->process, &objects->all[i]);
        }
    }
}

static struct remote_range code_of(const struct remote_target * target) {
    return (struct remote_range) { target->caves.code, target->caves.code + processor_stub_size() };
}

//
// what was left behind
//

static bool has_left(const struct remote_target * target, pid_t tid) {
    const struct remote_range code = code_of(target);
    for (int i = 0; i < LEAVE_TRIES; i++) {
        if (remote_thread_has_left(&target->process, tid, &code, LEAVE_MILLISECONDS)) {
            return true;
        }
    }
    return false;
}

static bool read_data(const struct remote_target * target, struct processor_data * data) {
    return remote_read(&target->process, target->caves.data, data, sizeof(*data));
}

// A child of the process has its memory, but not the thread.
static bool is_at_work(const struct remote_target * target, const struct processor_data * data) {
    uint64_t number;
    return data->magic == MAGIC && data->state == PROCESSOR_RUNNING
        && remote_status(target->process.pid, (pid_t) data->thread, "Pid", 10, &number);
}

// An injection whose own process was ended: its thread finishes alone. One that is armed, and whose thread is
// elsewhere, never begins.
static bool wait_for_former(const struct remote_target * target, struct error * error) {
    const int64_t         end = clock_milliseconds() + REMOTE_CALL_MILLISECONDS;
    struct processor_data data;
    while (read_data(target, &data)) {
        const bool is_over = !is_at_work(target, &data)
                          && (data.magic != MAGIC || has_left(target, (pid_t) data.thread));
        if (is_over && read_data(target, &data) && !is_at_work(target, &data)) {
            return true;
        }
        if (clock_milliseconds() >= end) {
            return error_set(error, "what was injected into process %d earlier is still at work: try again later, or "
                             "start the process anew", (int) target->process.pid);
        }
        nanosleep(&(struct timespec) { 0, 5000000 }, NULL);
    }
    return remote_denied(target->process.pid, error);
}

bool remote_call_prepare(struct remote_target * target, struct error * error) {
    find_caves(target);
    if (target->caves.code == 0 || target->caves.data == 0) {
        return error_set(error, "process %d has no room where a few bytes of code could stand: start the program with "
                         "tracing instead", (int) target->process.pid);
    }
    return wait_for_former(target, error);
}

//
// a call
//

// Into memory that the process may not write to itself: by words where the kernel lets nobody do it by file. The thread
// is stopped.
static bool poke(const struct remote_thread * thread, uint64_t address, const void * bytes, size_t size) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/mem", (int) thread->tid);
    const int  fd   = open(path, O_RDWR | O_CLOEXEC);
    bool       done = fd >= 0 && pwrite(fd, bytes, size, (off_t) address) == (ssize_t) size;
    if (fd >= 0) {
        close(fd);
    }
    if (done) {
        return true;
    }
    for (size_t i = 0; i < size; i += sizeof(long)) {
        long word;
        memcpy(&word, (const char *) bytes + i, sizeof(word));
        if (ptrace(PTRACE_POKEDATA, thread->tid, address + i, word) != 0) {
            return false;
        }
    }
    return true;
}

static bool send(const struct remote_target * target, const struct remote_thread * thread,
                 const struct processor_task * task) {
    unsigned char               stub[PROCESSOR_STUB_SIZE];
    const struct processor_data data = { MAGIC, PROCESSOR_ARMED, 0, (uint64_t) thread->tid };
    processor_stub_fill(stub, task, &thread->registers);
    return poke(thread, target->caves.data, &data, sizeof(data))
        && poke(thread, target->caves.code, stub, processor_stub_size())
        && processor_enter(thread->tid, &thread->registers, target->caves.code);
}

static bool wait_for_end(const struct remote_target * target, const char * what, uint64_t * result,
                         struct error * error) {
    const int64_t         end = clock_milliseconds() + REMOTE_CALL_MILLISECONDS;
    struct processor_data data;
    while (read_data(target, &data)) {
        if (data.state == PROCESSOR_DONE) {
            *result = data.result;
            return true;
        }
        if (clock_milliseconds() >= end) {
            return error_set(error, "process %d is not through with %s after ten seconds: it goes on with it alone",
                             (int) target->process.pid, what);
        }
        nanosleep(&(struct timespec) { 0, 500000 }, NULL);
    }
    return error_set(error, "process %d has ended while it was %s", (int) target->process.pid, what);
}

// Sends a thread, and lets it go. False, and why.
static bool begin_call(struct remote_target * target, uint64_t function,
                       const uint64_t arguments[PROCESSOR_ARGUMENTS], pid_t * tid, struct error * error) {
    struct remote_thread  thread;
    struct processor_task task = {
        .function       = function,
        .errno_location = target->errno_location,
        .data           = target->caves.data,
    };
    memcpy(task.arguments, arguments, sizeof(task.arguments));
    if (!remote_thread_stop(&target->process, &target->unsafe, &target->takes_limited, &thread, error)) {
        return false;
    }
    if (!send(target, &thread, &task)) {
        const int reason = errno;
        remote_thread_let_go(&thread);
        errno = reason;
        return remote_denied(target->process.pid, error);
    }
    remote_thread_detach(&thread);
    *tid = thread.tid;
    return true;
}

bool remote_call(struct remote_target * target, const char * what, uint64_t function,
                 const uint64_t arguments[PROCESSOR_ARGUMENTS], uint64_t * result, struct error * error) {
    pid_t tid;
    if (!begin_call(target, function, arguments, &tid, error)) {
        return false;
    }
    target->is_busy = true;
    if (!wait_for_end(target, what, result, error)) {
        return false;
    }
    target->is_busy = !has_left(target, tid);
    return !target->is_busy || error_set(error, "process %d is through with %s, but its thread did not go on from "
                                         "there: try again later", (int) target->process.pid, what);
}

// Whoever comes later takes it over, if no thread is found now.
void remote_call_finish(struct remote_target * target) {
    static const unsigned char zeros[PROCESSOR_STUB_SIZE];
    struct processor_data      data;
    struct remote_thread       thread;
    struct error               ignored;
    if (target->is_busy || !read_data(target, &data) || data.magic != MAGIC || data.state != PROCESSOR_DONE
            || !has_left(target, (pid_t) data.thread)
            || !remote_thread_stop(&target->process, &target->unsafe, &target->takes_limited, &thread,
                                   &ignored)) {
        return;
    }
    poke(&thread, target->caves.code, zeros, processor_stub_size());
    poke(&thread, target->caves.data, zeros, sizeof(data));
    remote_thread_let_go(&thread);
}
