// Which tokens of a batch are prompt and which generation.
//
// A token is generation when its sequence asked for logits in an earlier batch, and all of that sequence's tokens in
// this batch ask for logits; otherwise it is prompt. Embeddings are asked for likewise: who reads those does not
// generate.

#pragma once

#include "engine/context/context-state.h"

// A batch is going to be evaluated.
void phases_begin(struct context * context, const struct batch * batch);

// It was evaluated, with this status. Returns how many of its tokens were which.
struct routing_decode phases_end(struct context * context, const struct batch * batch, int32_t status);
