// Writes what llama.cpp's options take.

#include "commands/cache/cache-command.h"

#include "tool/error.h"

#include <inttypes.h>

#define MIB 0x1p20

uint64_t cache_command_mib(const struct cache_answer * answer) {
    return answer->bytes_known ? (uint64_t) (answer->sizes[answer->row].bytes / MIB) : 0;
}

char * cache_command_override(const struct cache_advice * advice) {
    char * text = memory_text("blk\\.(");
    for (size_t i = 0; i < advice->n_kept; i++) {
        text = memory_append(text, memory_text("%s%d", i == 0 ? "" : "|", (int) advice->kept_layers[i]));
    }
    return memory_append(text, memory_text(")\\.ffn_(gate|up|down|gate_up)_exps=CUDA0"));
}

static char * kept_command(const struct cache_advice * advice) {
    char * text = memory_append(memory_text("-ngl 99 -ot '"), cache_command_override(advice));
    text = memory_append(text, memory_text("' -cmoe"));
    return advice->kept_mib == 0 ? text
        : memory_append(text, memory_text(" --moe-cache-mib %" PRIu64, advice->kept_mib));
}

char * cache_command(const struct cache_answer * answer, enum cache_use use) {
    switch (use) {
        case CACHE_USE_LAYERS:
            return memory_text("-ngl 99 --n-cpu-moe %d", (int) answer->sizes[answer->row].first_whole);
        case CACHE_USE_LLAMA:
            return memory_text("-ngl 99 -cmoe --moe-cache-mib %" PRIu64, cache_command_mib(answer));
        case CACHE_USE_KEPT:
            return kept_command(&answer->advice);
        case CACHE_USE_ALL:
            return memory_text("-ngl 99");
        case CACHE_USE_NOTHING:
            break;
    }
    return memory_text("-ngl 99 -cmoe");
}
