#pragma once

// What a program's file says about how it is loaded. Only ELF of this machine's own class and byte order is read
// further than its first bytes.

#include "error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct elf_file {
    const unsigned char * bytes; // the whole file, mapped
    size_t                size;

    bool is_elf;
    bool is_native;              // of this program's class, byte order and machine: what follows is filled
    int  machine;                // EM_*, 0 where it cannot be read
    int  bits;                   // 32 or 64

    bool         is_dynamic;     // has a dynamic section
    bool         is_pie;         // says of itself that it is a program, not a library
    bool         is_executable;  // ET_EXEC
    const char * interpreter;    // NULL: none
    const char * soname;         // NULL: none
    const char * strings;        // of the dynamic section
    size_t       n_strings;
};

// False where the file cannot be read, and why. Whatever it is, even empty, it can be opened.
bool elf_file_open (struct elf_file * file, const char * path, struct error * error);
void elf_file_close(struct elf_file * file);

// Whether the dynamic section has the name, or one that ends in it: a symbol that is imported or exported.
bool elf_file_names   (const struct elf_file * file, const char * name);
// Whether the text is anywhere in the file.
bool elf_file_contains(const struct elf_file * file, const char * text);

const char * elf_file_machine_name(int machine); // "x86-64"
