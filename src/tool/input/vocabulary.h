// The texts of a model's tokens, from its GGUF file.

#pragma once

#include "tool/error.h"

#include <stdint.h>
#include <stdio.h>

struct vocabulary;

// NULL where the file cannot be read or has no vocabulary, as `error` tells.
struct vocabulary * vocabulary_open (const char * path, struct error * error);
void                vocabulary_close(struct vocabulary * vocabulary); // NULL is fine

// Prints the text of a token in quotation marks: control characters, quotation marks and bytes that are no UTF-8 as in
// C. A token that the model has not is "?".
void vocabulary_print(const struct vocabulary * vocabulary, int32_t token, FILE * out);
