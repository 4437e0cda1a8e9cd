// What the answer of `predict` comes to, in a sentence.

#pragma once

#include "answers/predict-answer.h"

char * predict_verdict(const struct predict_answer * answer); // allocated
