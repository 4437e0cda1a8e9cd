// The oracle model of models/README.md on a real engine, and what it routes: the prediction is written here from
// the formulas, not shared with the code that wrote the model.

#pragma once

#include "llama-expert-tracer.h"

#include <llama.h>

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#define ORACLE_N_LAYER  32
#define ORACLE_N_EXPERT 8
#define ORACLE_N_USED   2

// The expert that a layer chooses for a token, rank 0 being the one with the highest score.
int32_t oracle_expert(int32_t layer, llama_token token, int32_t rank);

// Path of oracle-<name>.gguf.
const char * oracle_path(const char * name);

struct llama_model   * oracle_load(const char * name);
struct llama_context * oracle_context(struct llama_model * model, uint32_t n_ubatch);

// Evaluates the characters of `text` as tokens, the last one asks for logits.
void oracle_evaluate(struct llama_context * ctx, const char * text);

// Fails unless the snapshot's counts are what oracle-mixtral routes for these texts, each of them one batch.
void oracle_assert_counts(const struct expert_tracer_snapshot * snapshot, size_t n_texts, const char * const * texts);

#define oracle_assert_evaluated(snapshot, ...)                                                                     \
    do {                                                                                                           \
        const char * const texts_[] = { __VA_ARGS__ };                                                             \
        oracle_assert_counts(snapshot, sizeof(texts_) / sizeof(*texts_), texts_);                                  \
    } while (0)

// Whether the text stands in the file.
bool oracle_file_says(const char * path, const char * text);

// Loads oracle-mixtral and has it in *state during a group of tests.
int oracle_group_setup   (void ** state);
int oracle_group_teardown(void ** state);
