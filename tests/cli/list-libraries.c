// Prints what src/tool/launch/loader.c reads of a program, in the words of `ld.so --list`.

#include "tool/launch/elf-file.h"
#include "tool/launch/loader.h"

#include <stdio.h>

int main(int argc, char ** argv) {
    struct elf_file       file;
    struct error          error;
    struct loader_listing listing;
    if (argc != 2 || !elf_file_open(&file, argv[1], &error)) {
        return 2;
    }
    loader_list(&listing, file.interpreter == NULL ? "" : file.interpreter, argv[1], NULL);
    for (size_t i = 0; i < listing.n; i++) {
        printf("%s => %s\n", listing.names[i], listing.paths[i] == NULL ? "not found" : listing.paths[i]);
    }
    if (listing.complaint != NULL) {
        printf("%s\n", listing.complaint);
    }
    const int status = listing.is_known ? 0 : 1;
    loader_clear(&listing);
    elf_file_close(&file);
    return status;
}
