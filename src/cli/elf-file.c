#include "elf-file.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#if __ELF_NATIVE_CLASS == 64
#    define NATIVE_CLASS ELFCLASS64
#else
#    define NATIVE_CLASS ELFCLASS32
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

static bool map_file(struct elf_file * file, int fd, const char * path, struct error * error) {
    struct stat status;
    if (fstat(fd, &status) != 0) {
        return error_set(error, "%s: %s", path, strerror(errno));
    }
    if (!S_ISREG(status.st_mode)) {
        return error_set(error, "%s: %s", path, S_ISDIR(status.st_mode) ? "a directory, not a program" : "not a plain file");
    }
    if (status.st_size == 0) {
        return true;
    }
    void * bytes = mmap(NULL, (size_t) status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes == MAP_FAILED) {
        return error_set(error, "%s: %s", path, strerror(errno));
    }
    file->bytes = bytes;
    file->size  = (size_t) status.st_size;
    return true;
}

// `n` bytes at `offset`, NULL where the file has none.
static const void * at(const struct elf_file * file, uint64_t offset, uint64_t n) {
    return offset <= file->size && n <= file->size - offset ? file->bytes + offset : NULL;
}

// A NUL-terminated text inside the file.
static const char * text_at(const struct elf_file * file, uint64_t offset) {
    const char * text = at(file, offset, 1);
    return text != NULL && memchr(text, '\0', file->size - offset) != NULL ? text : NULL;
}

static bool read_segment(const struct elf_file * file, const ElfW(Ehdr) * header, size_t i, ElfW(Phdr) * segment) {
    const void * bytes = at(file, header->e_phoff + (uint64_t) i * sizeof(*segment), sizeof(*segment));
    if (bytes != NULL) {
        memcpy(segment, bytes, sizeof(*segment));
    }
    return bytes != NULL;
}

// Where in the file an address of the loaded program comes from, the file's size where from nowhere.
static uint64_t offset_of(const struct elf_file * file, const ElfW(Ehdr) * header, uint64_t address) {
    for (size_t i = 0; i < header->e_phnum; i++) {
        ElfW(Phdr) segment;
        if (!read_segment(file, header, i, &segment)) {
            break;
        }
        if (segment.p_type == PT_LOAD && address >= segment.p_vaddr && address - segment.p_vaddr < segment.p_filesz) {
            return segment.p_offset + (address - segment.p_vaddr);
        }
    }
    return file->size;
}

static void read_dynamic(struct elf_file * file, const ElfW(Ehdr) * header, const ElfW(Phdr) * segment) {
    uint64_t strings   = 0;
    uint64_t n_strings = 0;
    uint64_t soname    = UINT64_MAX;
    for (uint64_t offset = 0; offset + sizeof(ElfW(Dyn)) <= segment->p_filesz; offset += sizeof(ElfW(Dyn))) {
        ElfW(Dyn)    entry;
        const void * bytes = at(file, segment->p_offset + offset, sizeof(entry));
        if (bytes == NULL) {
            break;
        }
        memcpy(&entry, bytes, sizeof(entry));
        if (entry.d_tag == DT_NULL) {
            break;
        }
        switch (entry.d_tag) {
            case DT_STRTAB:  strings      = entry.d_un.d_ptr;                    break;
            case DT_STRSZ:   n_strings    = entry.d_un.d_val;                    break;
            case DT_SONAME:  soname       = entry.d_un.d_val;                    break;
            case DT_FLAGS_1: file->is_pie = (entry.d_un.d_val & DF_1_PIE) != 0;  break;
            default:                                                             break;
        }
    }
    const uint64_t offset = offset_of(file, header, strings);
    file->strings   = at(file, offset, n_strings);
    file->n_strings = file->strings == NULL ? 0 : (size_t) n_strings;
    file->soname    = soname < file->n_strings ? text_at(file, offset + soname) : NULL;
}

static void read_native(struct elf_file * file) {
    ElfW(Ehdr)   header;
    const void * bytes = at(file, 0, sizeof(header));
    if (bytes == NULL) {
        return;
    }
    memcpy(&header, bytes, sizeof(header));
    file->is_executable = header.e_type == ET_EXEC;
    if (header.e_phentsize != sizeof(ElfW(Phdr))) {
        return;
    }
    for (size_t i = 0; i < header.e_phnum; i++) {
        ElfW(Phdr) segment;
        if (!read_segment(file, &header, i, &segment)) {
            return;
        }
        if (segment.p_type == PT_INTERP) {
            file->interpreter = text_at(file, segment.p_offset);
        } else if (segment.p_type == PT_DYNAMIC) {
            file->is_dynamic = true;
            read_dynamic(file, &header, &segment);
        }
    }
}

// Class, byte order and machine are at the same place in every ELF file.
static void read_identity(struct elf_file * file) {
    const unsigned char * bytes = at(file, 0, 20);
    file->is_elf = bytes != NULL && memcmp(bytes, ELFMAG, SELFMAG) == 0;
    if (!file->is_elf) {
        return;
    }
    const bool big  = bytes[EI_DATA] == ELFDATA2MSB;
    file->machine   = big ? bytes[18] << 8 | bytes[19] : bytes[19] << 8 | bytes[18];
    file->bits      = bytes[EI_CLASS] == ELFCLASS64 ? 64 : 32;
    file->is_native = bytes[EI_CLASS] == NATIVE_CLASS && bytes[EI_DATA] == NATIVE_DATA && file->machine == NATIVE_MACHINE;
}

bool elf_file_open(struct elf_file * file, const char * path, struct error * error) {
    *file = (struct elf_file) { 0 };
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return error_set(error, "%s: %s", path, strerror(errno));
    }
    const bool ok = map_file(file, fd, path, error);
    close(fd);
    if (ok) {
        read_identity(file);
    }
    if (ok && file->is_native) {
        read_native(file);
    }
    return ok;
}

void elf_file_close(struct elf_file * file) {
    if (file->bytes != NULL) {
        munmap((void *) file->bytes, file->size);
    }
    *file = (struct elf_file) { 0 };
}

// Linkers let a short name be the tail of a longer one (dlopen of uv_dlopen): a tail counts as a name.
bool elf_file_names(const struct elf_file * file, const char * name) {
    return file->strings != NULL && memmem(file->strings, file->n_strings, name, strlen(name) + 1) != NULL;
}

bool elf_file_contains(const struct elf_file * file, const char * text) {
    return file->bytes != NULL && memmem(file->bytes, file->size, text, strlen(text)) != NULL;
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
