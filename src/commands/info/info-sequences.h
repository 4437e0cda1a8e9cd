// Whether a trace knows its sequences, of the answer of `info`, for text and JSON.

#pragma once

#include "answers/info-answer.h"

bool info_knows_sequences(const struct info_answer * answer);
