// The model that an answer is about, as the text of commands names it.

#pragma once

#include "answers/answer-model.h"

// "Qwen3-30B (qwen3moe)", allocated.
char * model_text(const struct answer_model * model);
