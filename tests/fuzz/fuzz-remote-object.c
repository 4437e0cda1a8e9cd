// Whatever bytes there are as a library that another process has loaded: this one stands for it.

#include "fuzz.h"

#include "inject/remote-unsafe.h"

#include <sys/mman.h>

#define ROOM ((size_t) 1 << 16)

static void read_objects(const struct remote_process * process) {
    struct remote_objects objects;
    struct remote_unsafe  unsafe;
    remote_objects_find(process, &objects);
    remote_unsafe_find(process, &objects, &unsafe);
    for (size_t i = 0; i < objects.n; i++) {
        const struct remote_object * object   = &objects.all[i];
        const uint64_t               function = remote_function(process, object, "dlopen");
        EXPECT(memchr(object->name, '\0', sizeof(object->name)) != NULL);
        EXPECT(object->n_segments <= REMOTE_SEGMENTS);
        EXPECT(function == 0 || remote_segment_at(object, function)->can_execute);
        remote_object_named(&objects, "libc.so.6");
    }
    remote_is_unsafe_code(&unsafe, process->mappings[0].start);
    remote_is_unsafe_lock(&unsafe, process->mappings[0].start);
    remote_unsafe_free(&unsafe);
    remote_objects_free(&objects);
}

int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    void * memory = mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return 0;
    }
    memcpy(memory, data, size < ROOM ? size : ROOM);
    struct remote_mapping mapping = {
        .start       = (uint64_t) (uintptr_t) memory,
        .end         = (uint64_t) (uintptr_t) memory + ROOM,
        .can_read    = true,
        .can_execute = true,
        .path        = "/library",
    };
    const struct remote_process process = { .pid = getpid(), .lock = -1, .mappings = &mapping, .n_mappings = 1 };
    read_objects(&process);
    munmap(memory, ROOM);
    return 0;
}
