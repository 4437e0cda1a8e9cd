// The options of llama.cpp that use device memory as the answer of `cache` says.

#pragma once

#include "answers/cache-answer.h"

// Of llama.cpp's cache at the row that advice is about.
uint64_t cache_command_mib(const struct cache_answer * answer);

// For -ot: "blk\.(3|7)\.ffn_(gate|up|down|gate_up)_exps=CUDA0", allocated.
char * cache_command_override(const struct cache_advice * advice);

// "-ngl 99 -cmoe --moe-cache-mib 4096", allocated.
char * cache_command(const struct cache_answer * answer, enum cache_use use);
