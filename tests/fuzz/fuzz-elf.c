// Whatever bytes there are as a program: ELF, a script, and the cache of the loader.

#include "fuzz.h"

#include "tool/launch/elf-file.h"
#include "tool/launch/loader-cache.h"
#include "tool/launch/script.h"

static void read_program(const char * path) {
    struct error    error;
    struct elf_file file;
    if (!elf_file_open(&file, path, &error)) {
        return;
    }
    char head[32];
    elf_file_head    (&file, head, sizeof(head));
    elf_file_names   (&file, "llama_decode");
    elf_file_calls   (&file, "llama_decode");
    elf_file_contains(&file, "llama", 5);
    for (size_t i = 0; i < file.n_needed; i++) {
        EXPECT(strlen(file.needed[i]) < file.n_strings);
    }
    elf_file_close(&file);
}

static void read_cache(const char * path) {
    struct loader_cache cache;
    size_t              i = 0;
    loader_cache_open(&cache, path);
    for (int n = 0; loader_cache_next(&cache, "libllama.so", &i) && n < 1000; n++) {
    }
    loader_cache_close(&cache);
}

int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    char             text[64];
    struct fuzz_file input = fuzz_file_make(data, size);
    read_program(input.path);
    read_cache(input.path);
    script_interpreter(data, size, text, sizeof(text));
    script_has_command(data, size, "docker");
    script_exec_target(data, size, text, sizeof(text));
    close(input.fd);
    return 0;
}
