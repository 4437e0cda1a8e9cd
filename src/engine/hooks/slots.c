// Finds relocations of the functions that we stand in front of in the objects' dynamic sections, as the dynamic linker
// has done before, and writes to where they point.

#include "engine/hooks/slots.h"

#include "engine/upstream/real.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__x86_64__)
#    define SLOT_CALLED R_X86_64_JUMP_SLOT
#    define SLOT_HELD   R_X86_64_GLOB_DAT
#    define SLOT_WORD   R_X86_64_64
#elif defined(__aarch64__)
#    define SLOT_CALLED R_AARCH64_JUMP_SLOT
#    define SLOT_HELD   R_AARCH64_GLOB_DAT
#    define SLOT_WORD   R_AARCH64_ABS64
#else // taken by nobody: nothing can be attached there
#    define SLOT_CALLED (-1)
#    define SLOT_HELD   (-1)
#    define SLOT_WORD   (-1)
#endif

#define COMPUTE "ggml_backend_sched_graph_compute_async"

#define SLOT_NAME(type, name, parameters) { #name, NULL },

struct hooked {
    const char * name;
    void       * ours;
};

// A slot that has ours in it, and what was there.
struct slot {
    void ** at;
    void  * before;
};

// A loaded object, as far as its slots are concerned.
struct object {
    uintptr_t          base;
    const ElfW(Sym)  * symbols;
    const char       * strings;
    const ElfW(Rela) * relocations[2]; // of data, and of the procedure linkage table
    size_t             n          [2];
    uintptr_t          relro;          // pages that were made read-only behind the relocation, 0: none
    size_t             relro_size;
    bool               is_writable;    // and are not, for now
};

static struct hooked hooked[] = {
    REAL_HOOKED(SLOT_NAME)
    { "_exit", NULL },
    { "_Exit", NULL },
};
#define N_HOOKED (sizeof(hooked) / sizeof(hooked[0]))

static struct slot      * slots;      // [n_slots]
static size_t             n_slots;
static size_t             slots_room;
static bool               sees_calls; // of a function that evaluates a batch
static const void       * engine;     // the one through which graphs are computed, NULL: none
static unsigned long long n_loaded;   // objects, ever, when they were looked at last

//
// the functions
//

static int by_name(const void * a, const void * b) {
    return strcmp(((const struct hooked *) a)->name, ((const struct hooked *) b)->name);
}

// Ours, although the engine's are found first by whoever asks for the name.
static void find_ours(void) {
    Dl_info      us;
    void * const self = dladdr(hooked, &us) ? dlopen(us.dli_fname, RTLD_LAZY | RTLD_NOLOAD) : NULL;
    for (size_t i = 0; self && i < N_HOOKED; i++) {
        hooked[i].ours = dlsym(self, hooked[i].name);
    }
    qsort(hooked, N_HOOKED, sizeof(hooked[0]), by_name);
    if (self) {
        dlclose(self);
    }
}

bool slots_are_needless(void) {
    void * const program = dlopen(NULL, RTLD_LAZY); // not RTLD_DEFAULT, which has our own names at its end
    const void * first   = program ? dlsym(program, COMPUTE) : NULL;
    Dl_info      us;
    Dl_info      its;
    const bool   is_ours = first && dladdr(hooked, &us) && dladdr(first, &its) && us.dli_fbase == its.dli_fbase;
    if (program) {
        dlclose(program);
    }
    return is_ours;
}

static void * ours_of(const char * name) {
    const struct hooked   key   = { name, NULL };
    const struct hooked * found = bsearch(&key, hooked, N_HOOKED, sizeof(hooked[0]), by_name);
    return found ? found->ours : NULL;
}

//
// objects
//

// The dynamic linker has added the base to addresses in the section mostly, not on all processors.
static uintptr_t address_of(const struct object * object, const ElfW(Dyn) * entry) {
    return entry->d_un.d_ptr < object->base ? object->base + entry->d_un.d_ptr : entry->d_un.d_ptr;
}

static void read_dynamic(struct object * object, const ElfW(Dyn) * entry) {
    bool is_rela = true;
    for (; entry->d_tag != DT_NULL; entry++) {
        const uintptr_t address = address_of(object, entry);
        switch (entry->d_tag) {
            case DT_SYMTAB:   object->symbols        = (const ElfW(Sym)  *) address;                       break;
            case DT_STRTAB:   object->strings        = (const char       *) address;                       break;
            case DT_RELA:     object->relocations[0] = (const ElfW(Rela) *) address;                       break;
            case DT_RELASZ:   object->n          [0] = entry->d_un.d_val / sizeof(ElfW(Rela));             break;
            case DT_JMPREL:   object->relocations[1] = (const ElfW(Rela) *) address;                       break;
            case DT_PLTRELSZ: object->n          [1] = entry->d_un.d_val / sizeof(ElfW(Rela));             break;
            case DT_PLTREL:   is_rela = entry->d_un.d_val == DT_RELA;                                      break;
            default:                                                                                       break;
        }
    }
    for (int i = 0; i < 2; i++) {
        if (!is_rela || object->symbols == NULL || object->strings == NULL || object->relocations[i] == NULL) {
            object->n[i] = 0;
        }
    }
}

static bool has_address(const struct dl_phdr_info * info, const void * address) {
    bool found = false;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) * segment = &info->dlpi_phdr[i];
        const uintptr_t    low     = info->dlpi_addr + segment->p_vaddr;
        found = found || (segment->p_type == PT_LOAD && (uintptr_t) address >= low &&
                          (uintptr_t) address < low + segment->p_memsz);
    }
    return found;
}

// Returns false where it has no slots that matter.
static bool read_object(struct object * object, const struct dl_phdr_info * info) {
    const uintptr_t page = (uintptr_t) sysconf(_SC_PAGESIZE);
    *object = (struct object) { .base = info->dlpi_addr };
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) * segment = &info->dlpi_phdr[i];
        const uintptr_t    low     = info->dlpi_addr + segment->p_vaddr;
        if (segment->p_type == PT_DYNAMIC) {
            read_dynamic(object, (const ElfW(Dyn) *) low);
        } else if (segment->p_type == PT_GNU_RELRO) {
            object->relro      = low / page * page;
            object->relro_size = (low + segment->p_memsz) / page * page - object->relro;
        }
    }
    return object->n[0] + object->n[1] > 0 && !has_address(info, hooked);
}

static void protect(struct object * object, bool is_writable) {
    if (object->relro_size > 0 && object->is_writable != is_writable &&
        mprotect((void *) object->relro, object->relro_size, is_writable ? PROT_READ | PROT_WRITE : PROT_READ) == 0) {
        object->is_writable = is_writable;
    }
}

// Threads may call through it at any moment. False where its page is not to be written.
static bool write_slot(struct object * object, void ** slot, void * value) {
    const bool is_read_only = (uintptr_t) slot - object->relro < object->relro_size;
    if (is_read_only) {
        protect(object, true);
    }
    if (is_read_only && !object->is_writable) {
        return false;
    }
    __atomic_store_n(slot, value, __ATOMIC_RELEASE);
    return true;
}

// Calls `visit` with each slot of the object that is one of a function of ours.
static void for_slots(struct object * object, void (*visit)(struct object * object, void ** slot, void * ours)) {
    for (int i = 0; i < 2; i++) {
        for (size_t k = 0; k < object->n[i]; k++) {
            const ElfW(Rela) * relocation = &object->relocations[i][k];
            const int          type       = (int) ELF64_R_TYPE(relocation->r_info);
            const size_t       symbol     = (size_t) ELF64_R_SYM(relocation->r_info);
            const bool         is_slot    = type == SLOT_CALLED || type == SLOT_HELD ||
                                            (type == SLOT_WORD && relocation->r_addend == 0);
            void * const       ours       = is_slot && symbol > 0
                                          ? ours_of(object->strings + object->symbols[symbol].st_name) : NULL;
            if (ours) {
                visit(object, (void **) (object->base + relocation->r_offset), ours);
            }
        }
    }
    protect(object, false);
}

//
// taking
//

static struct slot * find_slot(void ** at) {
    for (size_t i = 0; i < n_slots; i++) {
        if (slots[i].at == at) {
            return &slots[i];
        }
    }
    return NULL;
}

static struct slot * new_slot(void ** at) {
    if (n_slots == slots_room) {
        const size_t  room  = slots_room * 2 + 256;
        struct slot * grown = realloc(slots, room * sizeof(*grown));
        if (grown == NULL) {
            return NULL;
        }
        slots      = grown;
        slots_room = room;
    }
    slots[n_slots] = (struct slot) { at, NULL };
    return &slots[n_slots++];
}

// What has nothing in it is a function that this engine lacks: programs look whether it is there.
static void take_slot(struct object * object, void ** at, void * ours) {
    void * const before = __atomic_load_n(at, __ATOMIC_ACQUIRE);
    if (before == NULL || before == ours) {
        return;
    }
    struct slot * known = find_slot(at); // of an object that is gone, or bound by the linker meanwhile
    struct slot * slot  = known ? known : new_slot(at);
    if (slot) {
        slot->before = before;
        if (write_slot(object, at, ours) && ours == ours_of(COMPUTE)) {
            engine = at;
        }
        sees_calls = sees_calls || ours == ours_of("llama_decode") || ours == ours_of("llama_process");
    }
}

static int take_object(struct dl_phdr_info * info, size_t size, void * data) {
    struct object object;
    (void) size;
    (void) data;
    if (read_object(&object, info)) {
        for_slots(&object, take_slot);
    }
    n_loaded = info->dlpi_adds;
    return 0;
}

static int is_known(struct dl_phdr_info * info, size_t size, void * data) {
    (void) size;
    *(bool *) data = info->dlpi_adds == n_loaded;
    return 1;
}

bool slots_take(void) {
    bool nothing_new = false;
    if (n_slots > 0) {
        dl_iterate_phdr(is_known, &nothing_new);
    } else {
        find_ours();
    }
    if (!nothing_new) {
        dl_iterate_phdr(take_object, NULL);
    }
    return engine != NULL;
}

bool slots_see_calls(void) {
    return sees_calls;
}

const void * slots_engine(void) {
    return engine;
}

//
// giving back
//

static void give_back_slot(struct object * object, void ** at, void * ours) {
    const struct slot * slot = find_slot(at);
    if (slot && __atomic_load_n(at, __ATOMIC_ACQUIRE) == ours) {
        write_slot(object, at, slot->before);
    }
}

static int give_back_object(struct dl_phdr_info * info, size_t size, void * data) {
    struct object object;
    (void) size;
    (void) data;
    if (read_object(&object, info)) {
        for_slots(&object, give_back_slot);
    }
    return 0;
}

void slots_give_back(void) {
    dl_iterate_phdr(give_back_object, NULL);
    free(slots);
    slots      = NULL;
    n_slots    = 0;
    slots_room = 0;
    engine     = NULL;
    sees_calls = false;
}
