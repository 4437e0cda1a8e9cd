// What the answer of `cache` comes to, in a sentence or two.

#pragma once

#include "answers/cache-answer.h"

// "generation" or "the prompt", whatever most people wait for.
const char * cache_phase_name(const struct cache_answer * answer);

char * cache_verdict(const struct cache_answer * answer); // allocated
