// Floats of 16 bits, as in ggml's F16.

#pragma once

#include <stdint.h>

float    half_float_read (uint16_t half);
uint16_t half_float_write(float value); // rounds towards zero; what is too large becomes the largest there is
