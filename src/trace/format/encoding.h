// How numbers are written in the routing trace (docs/trace-format.md). What puts one returns where the next byte goes.

#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define TRACE_VARINT_MAX 10 // bytes

static inline uint8_t * trace_put_u16(uint8_t * at, uint16_t value) {
    at[0] = (uint8_t) value;
    at[1] = (uint8_t) (value >> 8);
    return at + 2;
}

static inline uint8_t * trace_put_u32(uint8_t * at, uint32_t value) {
    at[0] = (uint8_t) value;
    at[1] = (uint8_t) (value >> 8);
    at[2] = (uint8_t) (value >> 16);
    at[3] = (uint8_t) (value >> 24);
    return at + 4;
}

static inline uint8_t * trace_put_u64(uint8_t * at, uint64_t value) {
    return trace_put_u32(trace_put_u32(at, (uint32_t) value), (uint32_t) (value >> 32));
}

static inline uint16_t trace_get_u16(const uint8_t * at) {
    return (uint16_t) (at[0] | at[1] << 8);
}

static inline uint32_t trace_get_u32(const uint8_t * at) {
    return (uint32_t) at[0] | (uint32_t) at[1] << 8 | (uint32_t) at[2] << 16 | (uint32_t) at[3] << 24;
}

static inline uint64_t trace_get_u64(const uint8_t * at) {
    return trace_get_u32(at) | (uint64_t) trace_get_u32(at + 4) << 32;
}

static inline uint8_t * trace_put_varint(uint8_t * at, uint64_t value) {
    while (value >= 0x80) {
        *at++ = (uint8_t) (value | 0x80);
        value >>= 7;
    }
    *at++ = (uint8_t) value;
    return at;
}

static inline uint8_t * trace_put_zigzag(uint8_t * at, int64_t value) {
    return trace_put_varint(at, (uint64_t) value << 1 ^ (value < 0 ? UINT64_MAX : 0));
}

// IEEE 754 binary16, rounded to the nearest and of two such to the even one. Whatever the processor is told of
// rounding.
static inline uint16_t trace_f16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    const uint32_t sign = bits >> 16 & 0x8000;
    const uint32_t size = bits & 0x7fffffff;
    if (size >= 0x47800000) { // 2^16 and above, infinite, or not a number
        return (uint16_t) (sign | (size > 0x7f800000 ? 0x7e00 : 0x7c00));
    }
    if (size >= 0x38800000) { // 2^-14 and above; what is rounded up to 2^16 becomes infinite
        return (uint16_t) (sign | (size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13);
    }
    if (size < 0x33000000) {  // less than half of the smallest one
        return (uint16_t) sign;
    }
    const uint32_t shift    = 126 - (size >> 23); // of a significand of 24 bits, to units of 2^-24
    const uint32_t fraction = (size & 0x7fffff) | 0x800000;
    const uint32_t half     = (uint32_t) 1 << (shift - 1);
    return (uint16_t) (sign | (fraction + half - 1 + (fraction >> shift & 1)) >> shift);
}
