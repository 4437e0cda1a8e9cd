// How even the layers of a statistics file are, for `show`: each by itself, as experts of two layers have nothing in
// common.

#pragma once

#include "statistics/statistics.h"
#include "tool/terminal.h"

// Nothing where layers are not told apart, or there is one.
void show_entropy_print(const struct terminal * terminal, const struct statistics * statistics,
                        const struct statistics_section * section);
