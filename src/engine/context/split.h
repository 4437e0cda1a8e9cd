// Which token of a batch each row of a ubatch is.
//
// llama.cpp cuts a batch into ubatches as its memory likes it: in the batch's order, or as many tokens of each of
// several sequences, one sequence behind the other. What a ubatch really has is seen in the inputs of its graph, ids
// and positions: a way of cutting counts as the one that was taken when they agree with it. Sequences of the same
// tokens may agree with both; the way that was right before is right again then.
//
// Graphs of some models have no positions (Kimi-Linear, Granite 4, Jamba, Nemotron 3), and releases that name no inputs
// do not tell which ones. That a graph has none is proven by its inputs: none of them can be the positions, however the
// batch was cut. From then on the ids decide alone, and sequences of the same tokens leave the rows unknown.

#pragma once

#include "engine/context/batch.h"

#define SPLIT_INPUTS_MAX 8

// The inputs of the graph that may be the ubatch's ids or positions.
struct split_inputs {
    const int32_t * at[SPLIT_INPUTS_MAX]; // [n], each [n_rows]
    int             n;
    int             ids;                  // which of them they are by name, -1: none has it
    int             positions;            // likewise
    bool            is_all;               // there are no others
};

enum split_way { SPLIT_IN_ORDER, SPLIT_EQUALLY, N_SPLIT_WAYS };

// Of the batch that is evaluated. Zeroed: none was begun.
struct split {
    size_t    room;
    bool    * used;      // [n_tokens] by token of the batch: an earlier ubatch had it
    int32_t * rows;      // [n_rows] index in the batch
    int32_t * others;    // while another way is looked for
    int32_t * sequences; // [n_tokens] of the batch, those that take part
    int32_t   n_tokens;
    int32_t   n_left;    // of them
    int32_t   n_ubatch;  // tokens of a ubatch at most, 0: not known

    enum split_way way;  // that was right last
    bool      lacks_positions; // the graph: proven, of this batch or an earlier one
    bool      is_ambiguous;    // the last ubatch: several ways agree with its ids, and nothing else could tell
};

// Returns false where memory runs out: nothing is known of its rows then.
bool split_begin(struct split * split, const struct batch * batch, int32_t n_ubatch);

// Finds the rows of the next ubatch, rows[0 … n_rows). Returns false where none of the ways agrees with the inputs, or
// where several ways with different rows agree with the ids and there are no positions.
bool split_next(struct split * split, const struct batch * batch, int32_t n_rows, const struct split_inputs * inputs);

void split_free(struct split * split);
