// Encodes rows in the types of ggml, as far as their only values go: 1 or 0 times a scale.

#include "token-row.h"

#include "half-float.h"

#include <string.h>

// Blocks as in ggml-common.h. The scale of a block is the value that its places have, and each place holds 1 or 0.

#define N_BLOCK_SMALL  32 // of Q4_0 and Q8_0
#define N_BLOCK_LARGE 256 // of Q6_K

struct block_q4_0 {
    uint16_t scale;
    uint8_t  low[N_BLOCK_SMALL/2];   // 4 bits of two places, 8 is zero
};

struct block_q8_0 {
    uint16_t scale;
    int8_t   places[N_BLOCK_SMALL];
};

struct block_q6_K {
    uint8_t  low [N_BLOCK_LARGE/2];  // 4 bits of two places
    uint8_t  high[N_BLOCK_LARGE/4];  // 2 bits of four; 32 is zero
    int8_t   scales[N_BLOCK_LARGE/16];
    uint16_t scale;
};

static size_t encode_q4_0(const float * values, size_t n, uint8_t * bytes) {
    struct block_q4_0 block = { .scale = 0 };
    for (size_t i = 0; i < n; i++) {
        if (values[i] != 0) {
            if (block.scale == 0) {
                memset(block.low, 0x88, sizeof(block.low));
            }
            block.scale                       = half_float_write(values[i]);
            block.low[i % (N_BLOCK_SMALL/2)] += i < N_BLOCK_SMALL/2 ? 0x01 : 0x10;
        }
    }
    memcpy(bytes, &block, sizeof(block));
    return sizeof(block);
}

static size_t encode_q8_0(const float * values, size_t n, uint8_t * bytes) {
    struct block_q8_0 block = { .scale = 0 };
    for (size_t i = 0; i < n; i++) {
        if (values[i] != 0) {
            block.scale     = half_float_write(values[i]);
            block.places[i] = 1;
        }
    }
    memcpy(bytes, &block, sizeof(block));
    return sizeof(block);
}

static size_t encode_q6_K(const float * values, size_t n, uint8_t * bytes) {
    struct block_q6_K block = { .scale = 0 };
    for (size_t i = 0; i < n; i++) {
        if (values[i] != 0) {
            if (block.scale == 0) {
                memset(block.high,   0xaa, sizeof(block.high));
                memset(block.scales, 1,    sizeof(block.scales));
            }
            block.scale                   = half_float_write(values[i]);
            block.low[i/128*64 + i % 64] += i % 128 < 64 ? 0x01 : 0x10;
        }
    }
    memcpy(bytes, &block, sizeof(block));
    return sizeof(block);
}

size_t token_row_encode(enum oracle_type type, const float * values, uint8_t * bytes) {
    if (type == ORACLE_F32) {
        memcpy(bytes, values, ORACLE_N_TOKENS*sizeof(*values));
        return ORACLE_N_TOKENS*sizeof(*values);
    }
    size_t (* encode)(const float *, size_t, uint8_t *) = NULL;
    size_t n_block = N_BLOCK_SMALL;
    switch (type) {
        case ORACLE_Q4_0: encode = encode_q4_0; break;
        case ORACLE_Q8_0: encode = encode_q8_0; break;
        case ORACLE_Q6_K: encode = encode_q6_K; n_block = N_BLOCK_LARGE; break;
        default:          return 0;
    }
    size_t size = 0;
    for (size_t i = 0; i < ORACLE_N_TOKENS; i += n_block) {
        const size_t n = ORACLE_N_TOKENS - i < n_block ? ORACLE_N_TOKENS - i : n_block;
        size += encode(values + i, n, bytes + size);
    }
    return size;
}
