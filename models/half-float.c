// Converts between floats of 32 bits and those of 16, bit by bit.

#include "half-float.h"

#include <math.h>

float half_float_read(uint16_t half) {
    const int   exponent = half >> 10 & 0x1f;
    const float fraction = (float) (half & 0x3ff);
    const float value    = exponent == 0 ? ldexpf(fraction, -24) : ldexpf(fraction + 1024.0f, exponent - 25);
    return half & 0x8000 ? -value : value;
}

uint16_t half_float_write(float value) {
    const uint16_t sign = value < 0 ? 0x8000 : 0;
    int            exponent;
    const float    fraction = frexpf(fabsf(value), &exponent); // [0.5, 1)
    if (exponent < -13) {
        return (uint16_t) (sign | (uint16_t) ldexpf(fabsf(value), 24));
    }
    if (exponent > 16) {
        return (uint16_t) (sign | 0x7bff);
    }
    return (uint16_t) (sign | (exponent + 14) << 10 | ((uint16_t) (fraction*2048.0f) & 0x3ff));
}
