// Drafted tokens, and what a sequence loses: of tokens that were evaluated together those at the end may be rejected.

#pragma once

#include "engine/context/context-state.h"

// A token of the ubatch that is computed may be a drafted one.
void drafts_note(struct context * context, struct drafted drafted);

// A sequence loses its positions from this one on; or all sequences do.
void drafts_cut    (struct context * context, int32_t sequence, int32_t position);
void drafts_cut_all(struct context * context, int32_t position);
