// Expert ids as bits, and gate weights as 16-bit floats: docs/trace-format.md.

#pragma once

#include <stddef.h>
#include <stdint.h>

// Reads n ids of so many bits (0 to 16) each, from a bit on; up to 7 bytes behind the last one are read.
// Returns the largest of them.
uint16_t trace_bits_unpack(const uint8_t * data, uint64_t bit, int n_bits, uint16_t * ids, size_t n);

// Writes n ids. All of the bytes were zeros from the bit on, and up to 7 behind the last one are written as such.
void trace_bits_pack(uint8_t * data, uint64_t bit, int n_bits, const uint16_t * ids, size_t n);

void trace_bits_floats(const uint8_t * f16, float * values, size_t n);
