// Quantities as people type them.

#pragma once

#include <stdbool.h>
#include <stdint.h>

// "6GiB", "6144MiB", "500MB", "6G" (as GiB), "1000": bytes. False where it is none, or less than 1.
bool quantity_bytes(const char * text, uint64_t * bytes);

// "25GB/s", "60GB": bytes a second. False where it is none, or not above 0.
bool quantity_rate(const char * text, double * rate);

// "18", "0.5": above 0.
bool quantity_number(const char * text, double * number);

// "1.5 GiB", in `text`, which is returned.
#define QUANTITY_MAX 32
char * quantity_text(double bytes, char text[QUANTITY_MAX]);
