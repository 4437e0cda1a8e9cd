// The programs and libraries that a process has loaded, and what they export: read from its memory, where anything may
// be written. What does not fit is not there.

#pragma once

#include "inject/remote-process.h"

#define REMOTE_SEGMENTS 16
#define REMOTE_NEEDED   64

// Of a loaded object, in the process's memory.
struct remote_segment {
    uint64_t start;
    uint64_t end; // behind its last byte, not rounded
    bool     can_write;
    bool     can_execute;
};

struct remote_object {
    char                  name[64]; // that it gives itself, DT_SONAME; "": none
    bool                  is_program;
    bool                  is_permanent; // needed by the program, however indirectly: never unloaded
    uint64_t              bias;
    struct remote_segment segments[REMOTE_SEGMENTS];
    size_t                n_segments;

    // tables, 0: there is none
    uint64_t symbols;
    uint64_t strings;
    uint64_t strings_size;
    uint64_t hash;
    uint64_t gnu_hash;

    uint64_t needed[REMOTE_NEEDED]; // names of others, in the strings
    size_t   n_needed;
};

struct remote_objects {
    struct remote_object * all;
    size_t                 n;
};

// Of the mappings that the process has now.
void remote_objects_find(const struct remote_process * process, struct remote_objects * objects);
void remote_objects_free(struct remote_objects * objects);

// The only one that gives itself the name. NULL: there is none, or there are several.
const struct remote_object * remote_object_named(const struct remote_objects * objects, const char * name);

// The address of a function that it exports, in its code. 0: there is none.
uint64_t remote_function(const struct remote_process * process, const struct remote_object * object, const char * name);

// The end of the last exported function that begins before an address; where there is none, the begin of the code.
uint64_t remote_function_before(const struct remote_process * process, const struct remote_object * object,
                                uint64_t address);

// The segment that the address lies in. NULL: none.
const struct remote_segment * remote_segment_at(const struct remote_object * object, uint64_t address);
