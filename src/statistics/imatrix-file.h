// The counts that llama-imatrix keeps beside its sums: one for each expert of each expert tensor.

#pragma once

#include "statistics/statistics.h"

// NULL, and why, for a GGUF that holds no counts of experts.
struct statistics * imatrix_file_load(const char * path, struct error * error);
