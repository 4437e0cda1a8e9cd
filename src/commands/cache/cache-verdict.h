// What the answer of `cache` comes to, in a sentence or two.

#pragma once

#include "answers/cache-answer.h"

// "generation" or "the prompt", whatever most people wait for.
const char * cache_phase_name(const struct cache_answer * answer);

// "84.1% (83.0-85.2%)", without the interval where there is none; allocated.
char * cache_verdict_share (const struct cache_value * share);
char * cache_verdict_tokens(const struct cache_value * tokens); // "18.2 (17.9-18.4)"

char * cache_verdict(const struct cache_answer * answer); // allocated

// llama.cpp's options that go with it, allocated; NULL: it recommends nothing.
char * cache_verdict_command(const struct cache_answer * answer);
