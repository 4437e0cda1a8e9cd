// Makes the memfd, divides it into segments, and keeps the entries that say where they are.

#include "live/live-memory.h"

#include "base/cache-line.h"
#include "base/descriptor.h"
#include "base/signal-guard.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define LIVE_SIZE_MAX ((size_t) 256 << 20) // addresses: memory is taken as it is used
#define LIVE_SIZE_MIN ((size_t)  16 << 20)
#define LIVE_GAPS_MAX 128
#define LIVE_PAGE     ((size_t) 65536)     // a multiple of all pages

#ifndef F_SEAL_FUTURE_WRITE
#    define F_SEAL_FUTURE_WRITE 0x0010
#endif

// A part of the file that is free again.
struct live_gap {
    size_t at;
    size_t size;
};

struct live_memory {
    int                  fd;         // open for writing
    int                  shown;      // for reading alone
    char               * base;
    size_t               size;
    struct live_header * header;
    struct live_entry  * entries;
    struct memory_source source;

    pthread_mutex_t      mutex;      // of the entries; taken last, none is taken while it is held but the next
    pthread_mutex_t      room_mutex; // of what follows
    size_t               used;
    size_t               allocated;  // the file has memory up to here: to write there cannot fail
    struct live_gap      gaps[LIVE_GAPS_MAX];
    size_t               n_gaps;
};

//
// the file
//

static bool live_has_range(struct live_memory * memory, size_t end) {
    const size_t wanted = (end + LIVE_PAGE - 1) / LIVE_PAGE * LIVE_PAGE;
    const size_t whole  = wanted < memory->size ? wanted : memory->size;
    if (end > memory->size) {
        return false;
    }
    if (whole > memory->allocated) {
        struct signal_guard guard;
        signal_guard_enter(&guard, SIGXFSZ);
        const int status = fallocate(memory->fd, 0, (off_t) memory->allocated, (off_t) (whole - memory->allocated));
        signal_guard_leave(&guard, status != 0 && errno == EFBIG);
        if (status != 0) {
            return false;
        }
        memory->allocated = whole;
    }
    return true;
}

// As large as limits of the process allow. Returns 0, or -errno.
static int live_resize(struct live_memory * memory) {
    int error = -ENOMEM;
    for (size_t size = LIVE_SIZE_MAX; size >= LIVE_SIZE_MIN; size /= 4) {
        struct signal_guard guard;
        signal_guard_enter(&guard, SIGXFSZ);
        const int status = ftruncate(memory->fd, (off_t) size);
        error = status == 0 ? 0 : -errno;
        signal_guard_leave(&guard, error == -EFBIG);
        if (status != 0) {
            continue;
        }
        void * base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memory->fd, 0);
        if (base != MAP_FAILED) {
            memory->base = base;
            memory->size = size;
            return 0;
        }
        error = -errno;
    }
    return error;
}

// Whoever gets the descriptor can neither shrink the file under us nor write to it. Kernels before 5.1 do not know the
// last of these: a process of the same user could write there, as it could to all of our memory.
static bool live_seal(int fd) {
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    return fcntl(fd, F_ADD_SEALS, seals | F_SEAL_FUTURE_WRITE) == 0 || fcntl(fd, F_ADD_SEALS, seals) == 0;
}

static int live_make(struct live_memory * memory) {
    char path[64];
    memory->fd = descriptor_take(memfd_create("llama-expert-tracer", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (memory->fd < 0) {
        return memory->fd;
    }
    const int error = live_resize(memory);
    if (error) {
        return error;
    }
    if (!live_has_range(memory, LIVE_HEADER_ROOM) || !live_seal(memory->fd)) {
        return -errno;
    }
    snprintf(path, sizeof(path), "/proc/self/fd/%d", memory->fd);
    memory->shown = descriptor_open(AT_FDCWD, path, O_RDONLY, 0);
    return memory->shown < 0 ? memory->shown : 0;
}

//
// segments
//

static void live_gap_drop(struct live_memory * memory, size_t i) {
    memory->gaps[i] = memory->gaps[--memory->n_gaps];
}

// Returns where it is, 0: there is no room.
static size_t live_take_gap(struct live_memory * memory, size_t size) {
    for (size_t i = 0; i < memory->n_gaps; i++) {
        struct live_gap * gap = &memory->gaps[i];
        if (gap->size >= size) {
            const size_t at = gap->at;
            gap->at   += size;
            gap->size -= size;
            if (gap->size == 0) {
                live_gap_drop(memory, i);
            }
            memset(memory->base + at, 0, size);
            return at;
        }
    }
    return 0;
}

static size_t live_take_end(struct live_memory * memory, size_t size) {
    const size_t at = memory->used;
    if (size > memory->size - at || !live_has_range(memory, at + size)) {
        return 0;
    }
    memory->used += size;
    return at;
}

static size_t live_segment_size(size_t size) {
    return (size / CACHE_LINE + 1) * CACHE_LINE;
}

static void * live_take(void * self, size_t size) {
    struct live_memory * memory = self;
    pthread_mutex_lock(&memory->room_mutex);
    size_t at = live_take_gap(memory, live_segment_size(size));
    at = at > 0 ? at : live_take_end(memory, live_segment_size(size));
    pthread_mutex_unlock(&memory->room_mutex);
    return at > 0 ? memory->base + at : cache_line_alloc(size);
}

// Gaps that touch become one. Where there are too many of them the segment is not used again.
static void live_give_gap(struct live_memory * memory, struct live_gap gap) {
    for (size_t i = 0; i < memory->n_gaps;) {
        const struct live_gap other = memory->gaps[i];
        if (other.at + other.size == gap.at || gap.at + gap.size == other.at) {
            gap.at    = other.at < gap.at ? other.at : gap.at;
            gap.size += other.size;
            live_gap_drop(memory, i);
            i = 0;
        } else {
            i++;
        }
    }
    if (gap.at + gap.size == memory->used) {
        memory->used = gap.at;
        memset(memory->base + gap.at, 0, gap.size);
    } else if (memory->n_gaps < LIVE_GAPS_MAX) {
        memory->gaps[memory->n_gaps++] = gap;
    }
}

static void live_give(void * self, void * segment, size_t size) {
    struct live_memory * memory = self;
    const uint64_t       at     = live_memory_offset(memory, segment);
    if (at == 0) {
        free(segment);
        return;
    }
    pthread_mutex_lock(&memory->room_mutex);
    live_give_gap(memory, (struct live_gap) { at, live_segment_size(size) });
    pthread_mutex_unlock(&memory->room_mutex);
}

const struct memory_source * live_memory_source(struct live_memory * memory) {
    return memory ? &memory->source : NULL;
}

uint64_t live_memory_offset(const struct live_memory * memory, const void * at) {
    const uintptr_t base  = memory ? (uintptr_t) memory->base : 0;
    const uintptr_t place = (uintptr_t) at;
    return memory && place >= base && place < base + memory->size ? place - base : 0;
}

//
// the header and its entries
//

static void live_copy_text(char * to, size_t size, const char * from) {
    snprintf(to, size, "%s", from ? from : "");
}

static void live_describe(struct live_memory * memory, const struct live_about * about) {
    struct live_header * header = memory->header;
    struct timespec      now;
    clock_gettime(CLOCK_REALTIME, &now);
    header->version    = LIVE_VERSION;
    header->entries_at = LIVE_ENTRIES_AT;
    header->entry_size = sizeof(struct live_entry);
    header->n_entries  = LIVE_ENTRIES_MAX;
    header->file_size  = memory->size;
    header->started    = (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
    header->pid        = getpid();
    live_copy_text(header->name,    sizeof(header->name),    about->name);
    live_copy_text(header->program, sizeof(header->program), about->program);
    live_copy_text(header->tracer,  sizeof(header->tracer),  about->tracer);
    memcpy(header->magic, LIVE_MAGIC, sizeof(header->magic));
}

struct live_memory * live_memory_new(const struct live_about * about, int * error) {
    struct live_memory * memory = calloc(1, sizeof(*memory));
    if (memory == NULL) {
        *error = -ENOMEM;
        return NULL;
    }
    memory->fd    = -1;
    memory->shown = -1;
    pthread_mutex_init(&memory->mutex,      NULL);
    pthread_mutex_init(&memory->room_mutex, NULL);
    *error = live_make(memory);
    if (*error) {
        live_memory_free(memory);
        return NULL;
    }
    memory->used    = LIVE_HEADER_ROOM;
    memory->header  = (struct live_header *) memory->base;
    memory->entries = (struct live_entry  *) (memory->base + LIVE_ENTRIES_AT);
    memory->source  = (struct memory_source) { live_take, live_give, memory };
    live_describe(memory, about);
    return memory;
}

void live_memory_free(struct live_memory * memory) {
    if (memory == NULL) {
        return;
    }
    if (memory->base) {
        munmap(memory->base, memory->size);
    }
    if (memory->fd >= 0) {
        close(memory->fd);
    }
    if (memory->shown >= 0) {
        close(memory->shown);
    }
    pthread_mutex_destroy(&memory->mutex);
    pthread_mutex_destroy(&memory->room_mutex);
    free(memory);
}

int64_t live_memory_started(const struct live_memory * memory) {
    return memory->header->started;
}

int live_memory_descriptor(const struct live_memory * memory) {
    return memory->shown;
}

static void live_step(struct live_memory * memory, memory_order order) {
    const uint32_t sequence = atomic_load_explicit(&memory->header->sequence, memory_order_relaxed);
    atomic_store_explicit(&memory->header->sequence, sequence + 1, order);
}

void live_memory_change(struct live_memory * memory) {
    if (memory) {
        pthread_mutex_lock(&memory->mutex);
        live_step(memory, memory_order_relaxed);
        atomic_thread_fence(memory_order_release);
    }
}

void live_memory_change_end(struct live_memory * memory) {
    if (memory) {
        live_step(memory, memory_order_release);
        pthread_mutex_unlock(&memory->mutex);
    }
}

int live_memory_add(struct live_memory * memory, const struct live_entry * entry, const void * at) {
    const uint64_t offset = live_memory_offset(memory, at);
    for (int i = 0; i < LIVE_ENTRIES_MAX && offset > 0; i++) {
        struct live_entry * place = &memory->entries[i];
        if (place->kind == LIVE_NONE) {
            place->kind    = entry->kind;
            place->model   = entry->model;
            place->context = entry->context;
            place->offset  = offset;
            place->size    = entry->size;
            return i;
        }
    }
    return -1;
}

void live_memory_remove(struct live_memory * memory, int number) {
    if (memory && number >= 0) {
        memory->entries[number].kind = LIVE_NONE;
    }
}

void live_memory_note_hidden(struct live_memory * memory) {
    if (memory) {
        atomic_fetch_add(&memory->header->n_hidden, 1);
    }
}

void live_memory_note_switches(struct live_memory * memory, uint32_t switches) {
    if (memory) {
        atomic_store(&memory->header->switches, switches);
    }
}
