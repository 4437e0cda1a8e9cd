// The option of llama.cpp that keeps some layers on the device as a whole.

#pragma once

#include "answers/cache-advice.h"

// For -ot: "blk\.(3|7)\.ffn_(gate|up|down|gate_up)_exps=CUDA0", allocated.
char * cache_override(const struct cache_advice * advice);
