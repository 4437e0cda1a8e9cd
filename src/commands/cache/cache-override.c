// Writes the layers that an advice keeps the way llama.cpp's -ot takes them.

#include "commands/cache/cache-override.h"

#include "tool/error.h"

char * cache_override(const struct cache_advice * advice) {
    char * text = memory_text("blk\\.(");
    for (size_t i = 0; i < advice->n_kept; i++) {
        text = memory_append(text, memory_text("%s%d", i == 0 ? "" : "|", (int) advice->kept_layers[i]));
    }
    return memory_append(text, memory_text(")\\.ffn_(gate|up|down|gate_up)_exps=CUDA0"));
}
