// Rows of matrices of which only the first places, those of tokens, may be other than zero, as their types hold them.

#pragma once

#include "oracle-models.h"
#include "oracle.h"

#include <stddef.h>
#include <stdint.h>

#define TOKEN_ROW_MAX_BYTES (ORACLE_N_TOKENS*sizeof(float))

// Writes as many blocks as hold all places of tokens, and returns their size in bytes; 0 for types but F32, Q4_0, Q8_0
// and Q6_K. Values of one block that are not zero are alike, so that nothing is lost but what a half float cannot hold.
size_t token_row_encode(enum oracle_type type, const float * values, uint8_t * bytes);
