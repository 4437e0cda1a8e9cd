// What a program's file says about how it is loaded. Only ELF of this machine's own class and byte order is read
// further than its first bytes. The file may be made to mislead, and may change while it is read: it is read, not
// mapped, and what does not fit into it is not there.

#pragma once

#include "tool/error.h"

#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct elf_range {
    uint64_t offset; // in the file
    uint64_t size;
};

struct elf_relocations {
    struct elf_range range;
    size_t           entry; // bytes of one of them
};

// A version of a library that is asked for: "GLIBC_2.34" of "libc.so.6".
struct elf_version {
    const char * library;
    const char * version;
};

struct elf_file {
    int      fd;
    uint64_t size;

    bool is_elf;
    bool is_native;              // of this program's class, byte order and machine: what follows is filled
    int  machine;                // EM_*, 0 where it cannot be read
    int  bits;                   // 32 or 64

    bool   is_dynamic;           // has a dynamic section
    bool   is_pie;               // says of itself that it is a program, not a library
    bool   is_executable;        // ET_EXEC
    bool   is_symbolic;          // finds its own functions before anybody else's
    bool   has_own_folders_only; // is not searched for in the system's folders
    char * interpreter;          // NULL: none

    // of the dynamic section, in `strings`; NULL: none
    const char         * soname;
    const char         * rpath;
    const char         * runpath;
    const char        ** needed;
    size_t               n_needed;
    struct elf_version * versions;
    size_t               n_versions;
    char               * strings;
    size_t               n_strings;

    ElfW(Phdr)           * segments;
    size_t                 n_segments;
    uint64_t               symbols;        // offset in the file
    struct elf_relocations relocations[3]; // with addends, without, and those of calls
};

// False where the file cannot be read, and why. Whatever it is, even empty, it can be opened.
bool elf_file_open (struct elf_file * file, const char * path, struct error * error);
void elf_file_close(struct elf_file * file);

// The file's first bytes. Returns how many it has of them.
size_t elf_file_head(const struct elf_file * file, void * bytes, size_t size);

// Whether the dynamic section has the name, or one that ends in it: a symbol that is imported or exported.
bool elf_file_names   (const struct elf_file * file, const char * name);
// Whether it reaches the function through the linker, where another library's may take its place.
bool elf_file_calls   (const struct elf_file * file, const char * name);
// Whether the bytes are anywhere in the file.
bool elf_file_contains(const struct elf_file * file, const void * bytes, size_t size);

const char * elf_file_machine_name(int machine); // "x86-64"
