// An ELF file, read as far as a loader would read it, whatever bytes it has.

#include "tool/launch/elf-file.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#if __ELF_NATIVE_CLASS == 64
#    define NATIVE_CLASS ELFCLASS64
#    define RELOCATION_SYMBOL(info) ELF64_R_SYM(info)
#else
#    define NATIVE_CLASS ELFCLASS32
#    define RELOCATION_SYMBOL(info) ELF32_R_SYM(info)
#endif

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#    define NATIVE_DATA ELFDATA2LSB
#else
#    define NATIVE_DATA ELFDATA2MSB
#endif

#if defined(__x86_64__)
#    define NATIVE_MACHINE EM_X86_64
#elif defined(__aarch64__)
#    define NATIVE_MACHINE EM_AARCH64
#elif defined(__i386__)
#    define NATIVE_MACHINE EM_386
#elif defined(__riscv)
#    define NATIVE_MACHINE EM_RISCV
#elif defined(__powerpc64__)
#    define NATIVE_MACHINE EM_PPC64
#elif defined(__s390x__)
#    define NATIVE_MACHINE EM_S390
#elif defined(__arm__)
#    define NATIVE_MACHINE EM_ARM
#elif defined(__loongarch__)
#    define NATIVE_MACHINE 258
#else
#    error "which EM_ is this machine?"
#endif

// No real file has more of these; one that says so is not worth the memory, or the time.
#define ENTRIES_MAX  ((size_t) 1 << 16)
#define VERSIONS_MAX ((size_t) 1 << 12)
#define TABLE_MAX    ((uint64_t) 64 << 20)
#define SEARCHED_MAX ((uint64_t) 2 << 30)
#define BLOCK        ((size_t) 1 << 20)

//
// bytes of the file
//

// A FIFO would wait for its writer, and a device may do something when it is opened.
static bool open_file(struct elf_file * file, const char * path, struct error * error) {
    struct stat status;
    if (stat(path, &status) != 0) {
        return error_set(error, "%s: %s", path, strerror(errno));
    }
    if (!S_ISREG(status.st_mode)) {
        return error_set(error, "%s: %s", path,
                         S_ISDIR(status.st_mode) ? "a directory, not a program" : "not a plain file");
    }
    file->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file->fd < 0 || fstat(file->fd, &status) != 0) {
        return error_set(error, "%s: %s", path, strerror(errno));
    }
    file->size = (uint64_t) status.st_size;
    return true;
}

static size_t read_up_to(const struct elf_file * file, uint64_t offset, void * bytes, size_t size) {
    size_t n = 0;
    while (n < size) {
        const ssize_t got = pread(file->fd, (char *) bytes + n, size - n, (off_t) (offset + n));
        if (got == 0 || (got < 0 && errno != EINTR)) {
            break;
        }
        n += got < 0 ? 0 : (size_t) got;
    }
    return n;
}

static bool fits(const struct elf_file * file, uint64_t offset, uint64_t size) {
    return offset <= file->size && size <= file->size - offset;
}

static bool read_at(const struct elf_file * file, uint64_t offset, void * bytes, size_t size) {
    return fits(file, offset, size) && read_up_to(file, offset, bytes, size) == size;
}

// Allocated, a NUL behind. NULL where the file has not that much, or it is too much.
static void * copy_of(const struct elf_file * file, struct elf_range range) {
    if (range.size == 0 || range.size > TABLE_MAX || !fits(file, range.offset, range.size)) {
        return NULL;
    }
    char * bytes = memory_new((size_t) range.size + 1, 1);
    if (read_up_to(file, range.offset, bytes, (size_t) range.size) < range.size) {
        free(bytes);
        return NULL;
    }
    return bytes;
}

//
// the parts of an ELF file
//

// Where in the file an address of the loaded program comes from, the file's size where from nowhere.
static uint64_t offset_of(const struct elf_file * file, uint64_t address) {
    for (size_t i = 0; i < file->n_segments; i++) {
        const ElfW(Phdr) * segment = &file->segments[i];
        if (segment->p_type == PT_LOAD && address >= segment->p_vaddr
                && address - segment->p_vaddr < segment->p_filesz) {
            return segment->p_offset + (address - segment->p_vaddr);
        }
    }
    return file->size;
}

static const char * string(const struct elf_file * file, uint64_t offset) {
    return offset < file->n_strings ? file->strings + offset : NULL;
}

// What the dynamic section says, in any order, before it is known where its strings are.
struct dynamic {
    ElfW(Dyn) * entries;
    size_t      n;
};

static struct dynamic read_entries(const struct elf_file * file, const ElfW(Phdr) * segment) {
    const uint64_t   n     = segment->p_filesz / sizeof(ElfW(Dyn));
    const uint64_t   most  = n < ENTRIES_MAX ? n : ENTRIES_MAX;
    struct dynamic   found = { copy_of(file, (struct elf_range) { segment->p_offset, most * sizeof(ElfW(Dyn)) }), 0 };
    while (found.entries != NULL && found.n < most && found.entries[found.n].d_tag != DT_NULL) {
        found.n++;
    }
    return found;
}

static uint64_t value_of(const struct dynamic * dynamic, int64_t tag, uint64_t otherwise) {
    for (size_t i = 0; i < dynamic->n; i++) {
        if (dynamic->entries[i].d_tag == tag) {
            return dynamic->entries[i].d_un.d_val;
        }
    }
    return otherwise;
}

static void read_strings(struct elf_file * file, const struct dynamic * dynamic) {
    const struct elf_range range = {
        offset_of(file, value_of(dynamic, DT_STRTAB, UINT64_MAX)),
        value_of(dynamic, DT_STRSZ, 0),
    };
    file->strings   = copy_of(file, range);
    file->n_strings = file->strings == NULL ? 0 : (size_t) range.size;
    file->soname    = string(file, value_of(dynamic, DT_SONAME,  UINT64_MAX));
    file->rpath     = string(file, value_of(dynamic, DT_RPATH,   UINT64_MAX));
    file->runpath   = string(file, value_of(dynamic, DT_RUNPATH, UINT64_MAX));
}

static void read_needed(struct elf_file * file, const struct dynamic * dynamic) {
    file->needed = memory_new(dynamic->n, sizeof(*file->needed));
    for (size_t i = 0; i < dynamic->n; i++) {
        const ElfW(Dyn) * entry = &dynamic->entries[i];
        const char      * name  = entry->d_tag == DT_NEEDED ? string(file, entry->d_un.d_val) : NULL;
        if (name != NULL && *name != '\0') {
            file->needed[file->n_needed++] = name;
        }
    }
}

// Those that are only nice to have are left out.
static void read_versions_of(struct elf_file * file, const ElfW(Verneed) * library, uint64_t offset) {
    offset += library->vn_aux;
    for (size_t i = 0; i < library->vn_cnt && file->n_versions < VERSIONS_MAX; i++) {
        ElfW(Vernaux) version;
        if (!read_at(file, offset, &version, sizeof(version))) {
            return;
        }
        const struct elf_version wanted = { string(file, library->vn_file), string(file, version.vna_name) };
        if (wanted.library != NULL && wanted.version != NULL && (version.vna_flags & VER_FLG_WEAK) == 0) {
            file->versions[file->n_versions++] = wanted;
        }
        if (version.vna_next == 0) {
            return;
        }
        offset += version.vna_next;
    }
}

static void read_versions(struct elf_file * file, const struct dynamic * dynamic) {
    const uint64_t n      = value_of(dynamic, DT_VERNEEDNUM, 0);
    uint64_t       offset = offset_of(file, value_of(dynamic, DT_VERNEED, UINT64_MAX));
    file->versions = n == 0 ? NULL : memory_new(VERSIONS_MAX, sizeof(*file->versions));
    for (uint64_t i = 0; i < n && i < VERSIONS_MAX; i++) {
        ElfW(Verneed) library;
        if (!read_at(file, offset, &library, sizeof(library))) {
            return;
        }
        read_versions_of(file, &library, offset);
        if (library.vn_next == 0) {
            return;
        }
        offset += library.vn_next;
    }
}

static struct elf_relocations read_relocations(const struct elf_file * file, const struct dynamic * dynamic,
                                               int64_t where, int64_t size, bool have_addends) {
    return (struct elf_relocations) {
        .range = { offset_of(file, value_of(dynamic, where, UINT64_MAX)), value_of(dynamic, size, 0) },
        .entry = have_addends ? sizeof(ElfW(Rela)) : sizeof(ElfW(Rel)),
    };
}

static void read_dynamic(struct elf_file * file, const ElfW(Phdr) * segment) {
    const struct dynamic dynamic = read_entries(file, segment);
    const uint64_t       flags   = value_of(&dynamic, DT_FLAGS,   0);
    const uint64_t       flags_1 = value_of(&dynamic, DT_FLAGS_1, 0);
    file->is_dynamic           = true;
    file->is_pie               = (flags_1 & DF_1_PIE) != 0;
    file->has_own_folders_only = (flags_1 & DF_1_NODEFLIB) != 0;
    file->is_symbolic          = (flags & DF_SYMBOLIC) != 0
                              || value_of(&dynamic, DT_SYMBOLIC, UINT64_MAX) != UINT64_MAX;
    file->symbols              = offset_of(file, value_of(&dynamic, DT_SYMTAB, UINT64_MAX));

    const bool calls_have_addends = value_of(&dynamic, DT_PLTREL, DT_RELA) == DT_RELA;
    file->relocations[0] = read_relocations(file, &dynamic, DT_RELA,   DT_RELASZ,   true);
    file->relocations[1] = read_relocations(file, &dynamic, DT_REL,    DT_RELSZ,    false);
    file->relocations[2] = read_relocations(file, &dynamic, DT_JMPREL, DT_PLTRELSZ, calls_have_addends);
    read_strings (file, &dynamic);
    read_needed  (file, &dynamic);
    read_versions(file, &dynamic);
    free(dynamic.entries);
}

static void read_interpreter(struct elf_file * file, const ElfW(Phdr) * segment) {
    const uint64_t size = segment->p_filesz < PATH_MAX ? segment->p_filesz : PATH_MAX;
    file->interpreter = copy_of(file, (struct elf_range) { segment->p_offset, size });
}

static void read_native(struct elf_file * file) {
    ElfW(Ehdr) header;
    if (!read_at(file, 0, &header, sizeof(header))) {
        return;
    }
    file->is_executable = header.e_type == ET_EXEC;
    if (header.e_phentsize != sizeof(ElfW(Phdr))) {
        return;
    }
    file->segments   = copy_of(file, (struct elf_range) { header.e_phoff, header.e_phnum * sizeof(ElfW(Phdr)) });
    file->n_segments = file->segments == NULL ? 0 : header.e_phnum;
    for (size_t i = 0; i < file->n_segments; i++) {
        if (file->segments[i].p_type == PT_INTERP && file->interpreter == NULL) {
            read_interpreter(file, &file->segments[i]);
        } else if (file->segments[i].p_type == PT_DYNAMIC && !file->is_dynamic) {
            read_dynamic(file, &file->segments[i]);
        }
    }
}

// Class, byte order and machine are at the same place in every ELF file.
static void read_identity(struct elf_file * file) {
    unsigned char bytes[20];
    file->is_elf = read_at(file, 0, bytes, sizeof(bytes)) && memcmp(bytes, ELFMAG, SELFMAG) == 0;
    if (!file->is_elf) {
        return;
    }
    const bool big  = bytes[EI_DATA] == ELFDATA2MSB;
    file->machine   = big ? bytes[18] << 8 | bytes[19] : bytes[19] << 8 | bytes[18];
    file->bits      = bytes[EI_CLASS] == ELFCLASS64 ? 64 : 32;
    file->is_native = bytes[EI_CLASS] == NATIVE_CLASS && bytes[EI_DATA] == NATIVE_DATA
                   && file->machine == NATIVE_MACHINE;
}

bool elf_file_open(struct elf_file * file, const char * path, struct error * error) {
    *file = (struct elf_file) { .fd = -1 };
    if (!open_file(file, path, error)) {
        elf_file_close(file);
        return false;
    }
    read_identity(file);
    if (file->is_native) {
        read_native(file);
    }
    return true;
}

void elf_file_close(struct elf_file * file) {
    if (file->fd >= 0) {
        close(file->fd);
    }
    free(file->interpreter);
    free(file->needed);
    free(file->versions);
    free(file->strings);
    free(file->segments);
    *file = (struct elf_file) { .fd = -1 };
}

//
// questions
//

size_t elf_file_head(const struct elf_file * file, void * bytes, size_t size) {
    return read_up_to(file, 0, bytes, size);
}

// Linkers let a short name be the tail of a longer one (dlopen of uv_dlopen): a tail counts as a name.
bool elf_file_names(const struct elf_file * file, const char * name) {
    return file->strings != NULL && memmem(file->strings, file->n_strings, name, strlen(name) + 1) != NULL;
}

// What they begin with is the same, with addends and without.
static uint64_t symbol_of(const char * relocations, size_t offset) {
    ElfW(Rel) relocation;
    memcpy(&relocation, relocations + offset, sizeof(relocation));
    return RELOCATION_SYMBOL(relocation.r_info);
}

static bool is_replaceable(const struct elf_file * file, const ElfW(Sym) * symbol, const char * name) {
    const char * its_name = string(file, symbol->st_name);
    return its_name != NULL && strcmp(its_name, name) == 0 && (symbol->st_shndx == SHN_UNDEF || !file->is_symbolic);
}

static bool has_relocation(const struct elf_file * file, const struct elf_relocations * table, const char * name) {
    if (table->entry == 0) {
        return false; // there is no such table
    }
    const size_t size        = (size_t) (table->range.size - table->range.size % table->entry);
    char       * relocations = copy_of(file, table->range);
    uint64_t     end         = 0;
    for (size_t i = 0; relocations != NULL && i < size; i += table->entry) {
        const uint64_t symbol = symbol_of(relocations, i);
        end = symbol >= end ? symbol + 1 : end;
    }
    ElfW(Sym) * symbols = copy_of(file, (struct elf_range) { file->symbols, end * sizeof(ElfW(Sym)) });
    bool        found   = false;
    for (size_t i = 0; symbols != NULL && i < size && !found; i += table->entry) {
        const uint64_t symbol = symbol_of(relocations, i);
        found = symbol != 0 && is_replaceable(file, &symbols[symbol], name);
    }
    free(relocations);
    free(symbols);
    return found;
}

bool elf_file_calls(const struct elf_file * file, const char * name) {
    bool found = false;
    for (size_t i = 0; i < sizeof(file->relocations) / sizeof(file->relocations[0]) && !found; i++) {
        found = has_relocation(file, &file->relocations[i], name);
    }
    return found;
}

// Where the next bytes are that were ever written: a file may have holes of any size.
static uint64_t next_data(const struct elf_file * file, uint64_t offset) {
    const off_t data = lseek(file->fd, (off_t) offset, SEEK_DATA);
    return data < 0 ? (errno == ENXIO ? file->size : offset) : (uint64_t) data;
}

bool elf_file_contains(const struct elf_file * file, const void * bytes, size_t size) {
    const uint64_t end   = file->size < SEARCHED_MAX ? file->size : SEARCHED_MAX;
    char         * block = memory_new(BLOCK, 1);
    bool           found = false;
    for (uint64_t at = next_data(file, 0); at < end && !found;) {
        const size_t n = read_up_to(file, at, block, BLOCK);
        found = memmem(block, n, bytes, size) != NULL;
        if (n < BLOCK) {
            break;
        }
        const uint64_t next = at + (BLOCK - size + 1);
        const uint64_t data = next_data(file, next);
        at = data > next + size ? data - size : next;
    }
    free(block);
    return found;
}

const char * elf_file_machine_name(int machine) {
    switch (machine) {
        case EM_X86_64:  return "x86-64";
        case EM_386:     return "x86";
        case EM_AARCH64: return "AArch64";
        case EM_ARM:     return "ARM";
        case EM_RISCV:   return "RISC-V";
        case EM_PPC64:   return "PowerPC 64";
        case EM_S390:    return "s390";
        default:         return "another kind of machine";
    }
}
