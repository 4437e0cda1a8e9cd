// Fills in what device memory is best used for, in the answer of `cache`.

#pragma once

#include "analysis/resample.h"
#include "answers/cache-answer.h"
#include "answers/cache-gather.h"

// Everything else of the answer is there. `draws`: of its phase, in the judged half.
void cache_advise(struct cache_answer * answer, const struct cache_gathered * gathered,
                  const struct resample_draws * draws);
