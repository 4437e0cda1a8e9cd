// The answer of `cache` for people: tables of rates, and what to do with device memory.

#pragma once

#include "answers/cache-answer.h"
#include "tool/terminal.h"

// What it comes to, and what to type.
void cache_text_print_verdict(const struct cache_answer * answer, const struct terminal * terminal);

// What it comes to, and what to type.
void cache_text_print_verdict(const struct cache_answer * answer, const struct terminal * terminal);

void cache_text_print(const struct cache_answer * answer, const struct terminal * terminal, bool per_layer);

// Which model it is, above that.
void cache_text_print_model(const struct cache_answer * answer, const struct terminal * terminal);
