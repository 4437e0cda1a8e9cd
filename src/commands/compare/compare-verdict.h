// What the answer of `compare` comes to, in a sentence or two for each pair.

#pragma once

#include "answers/compare-answer.h"

char * compare_pair_verdict(const struct compare_answer * comparison, size_t i_pair); // allocated

// Of all pairs, one behind the other.
char * compare_verdict(const struct compare_answer * comparison); // allocated
