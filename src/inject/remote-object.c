// Finds ELF headers among the mappings of a process, and reads symbols by the hash tables that its linker uses.

#include "inject/remote-object.h"

#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// No real object has more of these.
#define HEADERS_MAX 64
#define DYNAMIC_MAX 256
#define SYMBOLS_MAX ((uint64_t) 1 << 18)
#define BLOCK       ((uint64_t) 256) // symbols that are read at once
#define CHAIN_MAX   1024
#define TEXT_SIZE   64
#define PAGE        ((uint64_t) 4096)

//
// objects
//

const struct remote_segment * remote_segment_at(const struct remote_object * object, uint64_t address) {
    for (size_t i = 0; i < object->n_segments; i++) {
        if (address >= object->segments[i].start && address < object->segments[i].end) {
            return &object->segments[i];
        }
    }
    return NULL;
}

// glibc writes the address into the dynamic section, others leave what the file has.
static uint64_t address_of(const struct remote_object * object, uint64_t value) {
    if (value == 0 || remote_segment_at(object, value) != NULL) {
        return value;
    }
    return remote_segment_at(object, object->bias + value) != NULL ? object->bias + value : 0;
}

static void read_string(const struct remote_process * process, const struct remote_object * object, uint64_t offset,
                        char text[TEXT_SIZE]) {
    const uint64_t rest = offset < object->strings_size ? object->strings_size - offset : 0;
    const size_t   size = rest < TEXT_SIZE - 1 ? (size_t) rest : TEXT_SIZE - 1;
    memset(text, 0, TEXT_SIZE);
    if (size == 0 || !remote_read(process, object->strings + offset, text, size)) {
        text[0] = '\0';
    }
}

static void read_dynamic(const struct remote_process * process, struct remote_object * object,
                         const Elf64_Phdr * header) {
    Elf64_Dyn      entries[DYNAMIC_MAX];
    uint64_t       name = UINT64_MAX;
    const uint64_t n    = header->p_memsz / sizeof(entries[0]);
    const size_t   most = n < DYNAMIC_MAX ? (size_t) n : DYNAMIC_MAX;
    if (most == 0 || !remote_read(process, object->bias + header->p_vaddr, entries, most * sizeof(entries[0]))) {
        return;
    }
    for (size_t i = 0; i < most && entries[i].d_tag != DT_NULL; i++) {
        if (entries[i].d_tag == DT_NEEDED && object->n_needed < REMOTE_NEEDED) {
            object->needed[object->n_needed++] = entries[i].d_un.d_val;
        }
        const uint64_t value = entries[i].d_un.d_val;
        switch (entries[i].d_tag) {
            case DT_SYMTAB:   object->symbols      = address_of(object, value); break;
            case DT_STRTAB:   object->strings      = address_of(object, value); break;
            case DT_STRSZ:    object->strings_size = value;                     break;
            case DT_HASH:     object->hash         = address_of(object, value); break;
            case DT_GNU_HASH: object->gnu_hash     = address_of(object, value); break;
            case DT_SONAME:   name                 = value;                     break;
            default:                                                            break;
        }
    }
    read_string(process, object, name, object->name);
}

static void add_segment(struct remote_object * object, const Elf64_Phdr * header) {
    const uint64_t start = object->bias + header->p_vaddr;
    if (object->n_segments < REMOTE_SEGMENTS && header->p_memsz > 0 && start + header->p_memsz > start) {
        object->segments[object->n_segments++] = (struct remote_segment) {
            .start       = start,
            .end         = start + header->p_memsz,
            .can_write   = (header->p_flags & PF_W) != 0,
            .can_execute = (header->p_flags & PF_X) != 0,
        };
    }
}

// The program's own headers are where the kernel says, AT_PHDR.
static uint64_t program_headers(const struct remote_process * process) {
    Elf64_auxv_t entry;
    uint64_t     address = 0;
    char         path[64];
    snprintf(path, sizeof(path), "/proc/%d/auxv", (int) process->pid);
    FILE * file = fopen(path, "re");
    while (file != NULL && address == 0 && fread(&entry, sizeof(entry), 1, file) == 1 && entry.a_type != AT_NULL) {
        address = entry.a_type == AT_PHDR ? entry.a_un.a_val : 0;
    }
    if (file != NULL) {
        fclose(file);
    }
    return address;
}

static size_t read_headers(const struct remote_process * process, uint64_t start, Elf64_Phdr headers[HEADERS_MAX]) {
    Elf64_Ehdr header;
    if (!remote_read(process, start, &header, sizeof(header)) || memcmp(header.e_ident, ELFMAG, SELFMAG) != 0
            || header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_phentsize != sizeof(headers[0])
            || (header.e_type != ET_DYN && header.e_type != ET_EXEC)
            || header.e_phnum > HEADERS_MAX || header.e_phoff > PAGE) {
        return 0;
    }
    const size_t size = header.e_phnum * sizeof(headers[0]);
    return size > 0 && remote_read(process, start + header.e_phoff, headers, size) ? header.e_phnum : 0;
}

// A file that is only read, by a debugger's library say, is mapped as well.
static bool is_loaded(const struct remote_process * process, const struct remote_object * object) {
    for (size_t i = 0; i < object->n_segments; i++) {
        const struct remote_mapping * mapping = remote_mapping_at(process, object->segments[i].start);
        if (object->segments[i].can_execute && (mapping == NULL || !mapping->can_execute)) {
            return false;
        }
    }
    return object->n_segments > 0;
}

// False: at this mapping no object begins.
static bool read_object(const struct remote_process * process, uint64_t start, struct remote_object * object) {
    Elf64_Phdr   headers[HEADERS_MAX];
    const size_t n     = read_headers(process, start, headers);
    size_t       first = 0;
    while (first < n && headers[first].p_type != PT_LOAD) {
        first++;
    }
    if (first == n || headers[first].p_offset >= PAGE) {
        return false;
    }
    *object = (struct remote_object) { .bias = start - (headers[first].p_vaddr & ~(PAGE - 1)) };
    for (size_t i = first; i < n; i++) {
        if (headers[i].p_type == PT_LOAD) {
            add_segment(object, &headers[i]);
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (headers[i].p_type == PT_DYNAMIC) {
            read_dynamic(process, object, &headers[i]);
        }
    }
    return is_loaded(process, object);
}

// Those that are needed by one that stays stay too. True: there is another.
static bool keep_needed(const struct remote_process * process, struct remote_objects * objects,
                        const struct remote_object * object) {
    bool found = false;
    for (size_t i = 0; i < object->n_needed; i++) {
        char name[TEXT_SIZE];
        read_string(process, object, object->needed[i], name);
        for (size_t j = 0; j < objects->n && name[0] != '\0'; j++) {
            if (!objects->all[j].is_permanent && strcmp(objects->all[j].name, name) == 0) {
                objects->all[j].is_permanent = true;
                found                        = true;
            }
        }
    }
    return found;
}

static void find_permanent(const struct remote_process * process, struct remote_objects * objects) {
    bool found = true;
    for (size_t i = 0; i < objects->n; i++) {
        objects->all[i].is_permanent = objects->all[i].is_program || strcmp(objects->all[i].name, "libc.so.6") == 0;
    }
    while (found) {
        found = false;
        for (size_t i = 0; i < objects->n; i++) {
            found = (objects->all[i].is_permanent && keep_needed(process, objects, &objects->all[i])) || found;
        }
    }
}

void remote_objects_find(const struct remote_process * process, struct remote_objects * objects) {
    const uint64_t program = program_headers(process);
    *objects = (struct remote_objects) { 0 };
    for (size_t i = 0; i < process->n_mappings; i++) {
        const struct remote_mapping * mapping = &process->mappings[i];
        struct remote_object          object;
        if (mapping->offset != 0 || !mapping->can_read || mapping->path[0] != '/'
                || strncmp(mapping->path, "/dev/", 5) == 0 || !read_object(process, mapping->start, &object)) {
            continue;
        }
        object.is_program = remote_segment_at(&object, program) != NULL;
        objects->all = memory_resize(objects->all, objects->n + 1, sizeof(object));
        objects->all[objects->n++] = object;
    }
    find_permanent(process, objects);
}

void remote_objects_free(struct remote_objects * objects) {
    free(objects->all);
    *objects = (struct remote_objects) { 0 };
}

const struct remote_object * remote_object_named(const struct remote_objects * objects, const char * name) {
    const struct remote_object * found = NULL;
    for (size_t i = 0; i < objects->n; i++) {
        if (strcmp(objects->all[i].name, name) == 0) {
            if (found != NULL) {
                return NULL;
            }
            found = &objects->all[i];
        }
    }
    return found;
}

//
// symbols
//

static bool read_symbol(const struct remote_process * process, const struct remote_object * object, uint64_t index,
                        Elf64_Sym * symbol) {
    return index < SYMBOLS_MAX
        && remote_read(process, object->symbols + index * sizeof(*symbol), symbol, sizeof(*symbol));
}

// Its address, 0 where it is another's, or no function of this object's code.
static uint64_t function_of(const struct remote_object * object, const Elf64_Sym * symbol) {
    const uint64_t                address = object->bias + symbol->st_value;
    const struct remote_segment * segment = remote_segment_at(object, address);
    return symbol->st_shndx != SHN_UNDEF && ELF64_ST_TYPE(symbol->st_info) == STT_FUNC && segment != NULL
        && segment->can_execute ? address : 0;
}

static uint64_t function_called(const struct remote_process * process, const struct remote_object * object,
                                uint64_t index, const char * name) {
    Elf64_Sym symbol;
    char      text[TEXT_SIZE];
    if (!read_symbol(process, object, index, &symbol)) {
        return 0;
    }
    read_string(process, object, symbol.st_name, text);
    return strcmp(text, name) == 0 ? function_of(object, &symbol) : 0;
}

struct gnu_hash {
    uint32_t n_buckets;
    uint32_t first; // symbol that is in it
    uint32_t n_filter;
    uint32_t shift;
};

static bool read_gnu_hash(const struct remote_process * process, const struct remote_object * object,
                          struct gnu_hash * table, uint64_t * buckets, uint64_t * chains) {
    if (object->gnu_hash == 0 || !remote_read(process, object->gnu_hash, table, sizeof(*table))
            || table->n_buckets == 0) {
        return false;
    }
    *buckets = object->gnu_hash + sizeof(*table) + (uint64_t) table->n_filter * 8;
    *chains  = *buckets + (uint64_t) table->n_buckets * 4;
    return true;
}

static uint64_t find_by_gnu_hash(const struct remote_process * process, const struct remote_object * object,
                                 const char * name) {
    struct gnu_hash table;
    uint64_t        buckets, chains, found = 0;
    uint32_t        hash = 5381, index, value = 0;
    for (const char * c = name; *c != '\0'; c++) {
        hash = hash * 33 + (unsigned char) *c;
    }
    if (!read_gnu_hash(process, object, &table, &buckets, &chains)
            || !remote_read(process, buckets + (uint64_t) (hash % table.n_buckets) * 4, &index, sizeof(index))
            || index < table.first) {
        return 0;
    }
    for (size_t i = 0; i < CHAIN_MAX && found == 0 && (value & 1) == 0; i++, index++) {
        if (!remote_read(process, chains + (uint64_t) (index - table.first) * 4, &value, sizeof(value))) {
            return 0;
        }
        found = ((value ^ hash) >> 1) == 0 ? function_called(process, object, index, name) : 0;
    }
    return found;
}

// The older table: buckets behind two sizes, and a chain for each symbol behind these.
static uint64_t find_by_hash(const struct remote_process * process, const struct remote_object * object,
                             const char * name) {
    uint32_t sizes[2], hash = 0, index;
    uint64_t found = 0;
    for (const char * c = name; *c != '\0'; c++) {
        hash = (hash << 4) + (unsigned char) *c;
        hash = (hash ^ (hash >> 24 & 0xf0)) & 0x0fffffff;
    }
    if (object->hash == 0 || !remote_read(process, object->hash, sizes, sizeof(sizes)) || sizes[0] == 0
            || !remote_read(process, object->hash + 8 + (uint64_t) (hash % sizes[0]) * 4, &index, sizeof(index))) {
        return 0;
    }
    const uint64_t chains = object->hash + 8 + (uint64_t) sizes[0] * 4;
    for (size_t i = 0; i < CHAIN_MAX && index != 0 && found == 0; i++) {
        found = function_called(process, object, index, name);
        if (!remote_read(process, chains + (uint64_t) index * 4, &index, sizeof(index))) {
            break;
        }
    }
    return found;
}

uint64_t remote_function(const struct remote_process * process, const struct remote_object * object,
                         const char * name) {
    if (object->symbols == 0 || object->strings == 0) {
        return 0;
    }
    return object->gnu_hash != 0 ? find_by_gnu_hash(process, object, name) : find_by_hash(process, object, name);
}

// The table has no size: it ends where the strings begin, mostly.
static size_t read_symbols(const struct remote_process * process, const struct remote_object * object, uint64_t first,
                           Elf64_Sym symbols[BLOCK]) {
    const uint64_t start = object->symbols + first * sizeof(symbols[0]);
    const uint64_t rest  = start < object->strings ? (object->strings - start) / sizeof(symbols[0]) : 0;
    const size_t   n     = rest < BLOCK ? (size_t) rest : BLOCK;
    return n > 0 && first < SYMBOLS_MAX && remote_read(process, start, symbols, n * sizeof(symbols[0])) ? n : 0;
}

uint64_t remote_function_before(const struct remote_process * process, const struct remote_object * object,
                                uint64_t address) {
    const struct remote_segment * code   = remote_segment_at(object, address);
    uint64_t                      before = code == NULL ? address : code->start;
    Elf64_Sym                     symbols[BLOCK];
    size_t                        n;
    for (uint64_t first = 0; (n = read_symbols(process, object, first, symbols)) > 0; first += n) {
        for (size_t i = 0; i < n; i++) {
            const uint64_t start = function_of(object, &symbols[i]);
            const uint64_t end   = start + symbols[i].st_size;
            if (start != 0 && start < address && end <= address && end > before) {
                before = end;
            }
        }
    }
    return before;
}
