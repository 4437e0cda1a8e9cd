// llama.cpp's cache for the layers of a traced model.

#pragma once

#include "analysis/llama-moe-cache.h"
#include "tool/input/trace-shape.h"

// With `bytes` for slots, whose bytes must be known (`bytes_known`). is_kept: [n_layers], layers that are on the device
// as a whole, NULL: none. max_rows: as in llama_moe_cache_options. Tells the slots of all groups. NULL: out of memory.
struct llama_moe_cache * cache_llama_new(const struct trace_shape * shape, const bool * is_kept, double bytes,
                                         int32_t max_rows, size_t * n_slots);
