// Packs and unpacks expert ids, as the chunks of a trace have them, and widens gate weights.

#include "trace/format/trace-bits.h"

#include <endian.h>
#include <string.h>

static inline uint64_t load(const uint8_t * at) {
    uint64_t word;
    memcpy(&word, at, sizeof(word));
    return le64toh(word);
}

static inline void store(uint8_t * at, uint64_t word) {
    word = htole64(word);
    memcpy(at, &word, sizeof(word));
}

// Whole bytes: eight ids take as many as one id has bits. With n_bits known to the compiler each is one load, shift
// and mask.
static inline uint16_t unpack(const uint8_t * data, unsigned shift, const unsigned n_bits, uint16_t * ids, size_t n) {
    const uint64_t mask    = (1u << n_bits) - 1;
    uint16_t       largest = 0;
    for (; n >= 8; n -= 8, ids += 8, data += n_bits) {
        for (unsigned i = 0; i < 8; i++) {
            ids[i]  = (uint16_t) (load(data + i * n_bits / 8) >> (shift + i * n_bits % 8) & mask);
            largest = ids[i] > largest ? ids[i] : largest;
        }
    }
    for (unsigned i = 0; i < n; i++) {
        ids[i]  = (uint16_t) (load(data + (shift + i * n_bits) / 8) >> (shift + i * n_bits) % 8 & mask);
        largest = ids[i] > largest ? ids[i] : largest;
    }
    return largest;
}

uint16_t trace_bits_unpack(const uint8_t * data, uint64_t bit, int n_bits, uint16_t * ids, size_t n) {
    const uint8_t * at    = data + bit / 8;
    const unsigned  shift = (unsigned) (bit % 8);
    switch (n_bits) {
        case  0: memset(ids, 0, n * sizeof(ids[0])); return 0;
        case  1: return unpack(at, shift,  1, ids, n);
        case  2: return unpack(at, shift,  2, ids, n);
        case  3: return unpack(at, shift,  3, ids, n);
        case  4: return unpack(at, shift,  4, ids, n);
        case  5: return unpack(at, shift,  5, ids, n);
        case  6: return unpack(at, shift,  6, ids, n);
        case  7: return unpack(at, shift,  7, ids, n);
        case  8: return unpack(at, shift,  8, ids, n);
        case  9: return unpack(at, shift,  9, ids, n);
        case 10: return unpack(at, shift, 10, ids, n);
        default: return unpack(at, shift, (unsigned) n_bits, ids, n);
    }
}

void trace_bits_pack(uint8_t * data, uint64_t bit, int n_bits, const uint16_t * ids, size_t n) {
    uint8_t * at     = data + bit / 8;
    unsigned  n_held = (unsigned) (bit % 8);
    uint64_t  held   = *at; // its lowest bits are there already
    for (size_t i = 0; i < n; i++) {
        held   |= (uint64_t) ids[i] << n_held;
        n_held += (unsigned) n_bits;
        if (n_held >= 48) {
            store(at, held);
            at     += 6;
            held  >>= 48;
            n_held -= 48;
        }
    }
    store(at, held);
}

static inline float as_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

// The exponents differ by 112: what is multiplied by 2^112 is exact, with the smallest numbers as well.
void trace_bits_floats(const uint8_t * f16, float * values, size_t n) {
    const float factor = as_float((127 + 112) << 23);
    for (size_t i = 0; i < n; i++) {
        const uint32_t half = (uint32_t) (f16[2 * i] | f16[2 * i + 1] << 8);
        const uint32_t size = half & 0x7fff;
        const uint32_t bits = size >= 0x7c00 ? size << 13 | 0x7f800000 : 0;
        float value = as_float(size << 13) * factor;
        uint32_t word;
        memcpy(&word, &value, sizeof(word));
        values[i] = as_float((bits ? bits : word) | (half & 0x8000) << 16);
    }
}
