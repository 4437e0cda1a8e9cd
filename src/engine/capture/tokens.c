// Finds out which tokens a ubatch has, from the inputs of its graph and the batch that the program passed.

#include "engine/capture/tokens.h"

#include "engine/context/drafts.h"
#include "engine/upstream/layers.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define POSITIONS_MAX 4 // of one token: time, height, width and one more

// What the graph's inputs tell. Releases between b5000 and b8200 or so do not name them.
struct reading {
    struct split_inputs values; // those that may be ids or positions
    bool                outputs_known;

    const struct ggml_tensor * shorter; // the last input that has fewer elements than there are tokens, NULL: none has
};

static void tokens_begin(struct ubatch_tokens * tokens, const struct context * context) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    tokens->number         = context->n_ubatches;
    tokens->batch          = context->seen ? context->number : context->n_ubatches;
    tokens->time           = (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
    tokens->n              = 0;
    tokens->lost           = context->is_split_lost || context->phases_lost;
    tokens->n_outputs      = 0;
    tokens->rows_known     = false;
    tokens->rows_ambiguous = false;
}

void tokens_free(struct ubatch_tokens * tokens) {
    free(tokens->tokens);
    free(tokens->outputs);
    free(tokens->values);
    *tokens = (struct ubatch_tokens) { 0 };
}

static bool tokens_make_room(struct ubatch_tokens * tokens, size_t n) {
    if (n <= tokens->room) {
        return true;
    }
    tokens_free(tokens);
    tokens->tokens  = malloc(n * sizeof(*tokens->tokens));
    tokens->outputs = malloc(n * sizeof(*tokens->outputs));
    tokens->values  = malloc(n * sizeof(*tokens->values) * SPLIT_INPUTS_MAX);
    if (tokens->tokens == NULL || tokens->outputs == NULL || tokens->values == NULL) {
        tokens_free(tokens);
        return false;
    }
    tokens->room = n;
    return true;
}

//
// inputs
//

static bool is_named(const struct real * real, const struct ggml_tensor * tensor, const char * name) {
    return strcmp(real->ggml_get_name(tensor), name) == 0;
}

static bool is_ascending(const int32_t * values, int32_t n, int32_t end) {
    for (int32_t i = 0; i < n; i++) {
        if (values[i] < (i > 0 ? values[i - 1] + 1 : 0) || values[i] >= end) {
            return false;
        }
    }
    return true;
}

// Which rows are asked for, as the engine has it.
static bool read_outputs(struct ubatch_tokens * tokens, const struct real * real, const struct ggml_tensor * input,
                         int32_t n_tokens) {
    const int64_t n = real->ggml_nelements(input);
    if (n > n_tokens) {
        return false;
    }
    if (n > 0) {
        real->ggml_backend_tensor_get(input, tokens->outputs, 0, (size_t) n * sizeof(int32_t));
    }
    tokens->n_outputs = (int32_t) n;
    return is_ascending(tokens->outputs, tokens->n_outputs, n_tokens);
}

static void read_inputs(struct reading * reading, struct ubatch_tokens * tokens, const struct real * real,
                        const struct graph_inputs * inputs, int32_t n_tokens) {
    struct split_inputs * values = &reading->values;
    *reading = (struct reading) { .values = { .ids = -1, .positions = -1, .is_all = inputs->n < GRAPH_INPUTS_MAX } };
    for (int i = 0; i < inputs->n; i++) {
        const struct ggml_tensor * input = inputs->at[i];
        const int64_t              n     = real->ggml_nelements(input);
        if (real->ggml_element_size(input) != sizeof(int32_t) || (n > 0 && !real->ggml_get_data(input))) {
            continue; // something else, or not used by this graph
        }
        if (is_named(real, input, "out_ids") || is_named(real, input, "inp_out_ids")) {
            reading->outputs_known = read_outputs(tokens, real, input, n_tokens);
        } else if (n >= n_tokens && n % n_tokens == 0 && n / n_tokens <= POSITIONS_MAX) {
            if (values->n == SPLIT_INPUTS_MAX) {
                values->is_all = false;
                continue;
            }
            int32_t * at = tokens->values + (size_t) values->n * (size_t) n_tokens;
            real->ggml_backend_tensor_get(input, at, 0, (size_t) n_tokens * sizeof(int32_t));
            values->ids             = is_named(real, input, "inp_tokens") ? values->n : values->ids;
            values->positions       = is_named(real, input, "inp_pos")    ? values->n : values->positions;
            values->at[values->n++] = at;
        } else if (n < n_tokens) {
            reading->shorter = input;
        }
    }
}

// The input that goes on from a position.
static const int32_t * find_rising(const struct split_inputs * inputs, int32_t next, int32_t n_tokens) {
    for (int i = 0; i < inputs->n; i++) {
        int32_t row = 0;
        while (i != inputs->ids && row < n_tokens && inputs->at[i][row] == next + row) {
            row++;
        }
        if (row == n_tokens) {
            return inputs->at[i];
        }
    }
    return NULL;
}

// Where the program does not tell the positions, they are the input of that name, or the one that goes on behind the
// last token, or begins anew. One number alone does not tell that, unless the context's graphs have positions and this
// one no other inputs but the ids. Returns NULL where they are not known, or there are none.
static const int32_t * find_positions(const struct split_inputs * inputs, struct context * context, int32_t next,
                                      int32_t n_tokens) {
    if (inputs->positions >= 0) {
        return inputs->at[inputs->positions];
    }
    if (context->split.lacks_positions) {
        return NULL;
    }
    const int32_t * rising = find_rising(inputs, next, n_tokens);
    if (!rising && n_tokens > 1) {
        rising = find_rising(inputs, 0, n_tokens);
    }
    context->has_positions = context->has_positions || (rising && n_tokens > 1);
    return rising || !context->has_positions || inputs->n != 2 ? rising : inputs->at[1];
}

//
// tokens
//

// What the program does is not seen: no more than the inputs tell, by their names, their order, and what they were
// before.
static void tell_unseen(struct ubatch_tokens * tokens, const struct split_inputs * inputs, struct context * context,
                        int32_t n_tokens) {
    struct sequence     * all      = sequences_at(&context->sequences, 0);
    const int             ids      = inputs->ids >= 0 ? inputs->ids : inputs->n > 1 ? 0 : -1;
    const int32_t * const id       = ids >= 0 ? inputs->at[ids] : NULL;
    const int32_t * const position = find_positions(inputs, context, all ? all->next : 0, n_tokens);
    if (all && position) {
        all->next = position[n_tokens - 1] + 1;
    }
    for (int32_t i = 0; i < n_tokens; i++) {
        tokens->tokens[i] = (struct expert_tracer_token) {
            .id       = id       ? id      [i] : -1,
            .sequence = -1,
            .position = position ? position[i] : -1,
        };
    }
}

// How far the sequences of a token have come: all that it belongs to.
static void note_position(struct context * context, int32_t i, int32_t position) {
    const int32_t n = batch_n_sequences(context->batch, i);
    for (int32_t k = 0; k < n; k++) {
        struct sequence * sequence = sequences_known(&context->sequences, batch_sequence(context->batch, i, k));
        if (sequence) {
            sequence->next = position >= 0 ? position + 1 : sequence->next + 1;
        }
    }
}

static void tell_seen(struct ubatch_tokens * tokens, const struct split_inputs * inputs, struct context * context,
                      int32_t n_tokens) {
    const struct batch * batch = context->batch;
    tokens->rows_known     = split_next(&context->split, batch, n_tokens, inputs);
    tokens->rows_ambiguous = context->split.is_ambiguous;
    if (!tokens->rows_known) {
        tell_unseen(tokens, inputs, context, n_tokens);
        return;
    }
    const struct batch_token first     = batch_token(batch, context->split.rows[0]);
    const struct sequence  * alone     =
        first.position < 0 ? sequences_known(&context->sequences, first.sequence) : NULL;
    const int32_t          * positions = alone ? find_positions(inputs, context, alone->next, n_tokens) : NULL;
    for (int32_t i = 0; i < n_tokens; i++) {
        const struct batch_token token    = batch_token(batch, context->split.rows[i]);
        struct sequence        * sequence = sequences_known(&context->sequences, token.sequence);
        const int32_t            position = token.position >= 0 ? token.position : positions ? positions[i] : -1;
        tokens->tokens[i] = (struct expert_tracer_token) {
            .id         = token.id,
            .sequence   = token.sequence,
            .life       = sequence ? sequence->life : 0,
            .position   = position,
            .generation = sequence && sequence->generates,
            .output     = token.asks,
        };
        note_position(context, context->split.rows[i], position);
        if (sequence && !sequence->asks_not_for_all) {
            drafts_note(context, (struct drafted) { token.sequence, position, context->n_ubatches, i });
        }
    }
}

// Where what is asked for has no name, it is the last of the shorter inputs: those of the memory are made before it.
// Where none is shorter, everything is.
static void guess_outputs(struct reading * reading, struct ubatch_tokens * tokens, const struct real * real,
                          int32_t n_tokens) {
    if (!reading->outputs_known && reading->shorter) {
        reading->outputs_known = read_outputs(tokens, real, reading->shorter, n_tokens);
    }
    for (int32_t i = 0; reading->shorter == NULL && i < n_tokens; i++) {
        tokens->tokens[i].output = true;
    }
}

// What the engine has is believed more than what the program asked for: embeddings are asked for by the context.
static void tell_outputs(struct ubatch_tokens * tokens, const struct reading * reading, int32_t n_tokens) {
    if (reading->outputs_known) {
        for (int32_t i = 0; i < n_tokens; i++) {
            tokens->tokens[i].output = false;
        }
        for (int32_t i = 0; i < tokens->n_outputs; i++) {
            tokens->tokens[tokens->outputs[i]].output = true;
        }
        return;
    }
    tokens->n_outputs = 0;
    for (int32_t i = 0; i < n_tokens; i++) {
        if (tokens->tokens[i].output) {
            tokens->outputs[tokens->n_outputs++] = i;
        }
    }
}

void tokens_read(struct ubatch_tokens * tokens, const struct real * real, const struct graph_inputs * inputs,
                 struct context * context, struct ggml_cgraph * graph) {
    const int32_t n_tokens = context_wants_tokens(context) ? (int32_t) graph_n_tokens(real, graph) : 0;
    const bool    has_room = tokens_make_room(tokens, (size_t) n_tokens);
    context->tokens_lost = false;
    tokens_begin(tokens, context);
    if (n_tokens < 1 || !has_room) {
        tokens->lost = tokens->lost || !has_room;
        return;
    }
    struct reading reading;
    read_inputs(&reading, tokens, real, inputs, n_tokens);
    if (context->batch) {
        tell_seen(tokens, &reading.values, context, n_tokens);
    } else {
        tokens->rows_known = true;
        tell_unseen(tokens, &reading.values, context, n_tokens);
        guess_outputs(&reading, tokens, real, n_tokens);
    }
    tell_outputs(tokens, &reading, n_tokens);
    tokens->n    = n_tokens;
    tokens->lost = tokens->lost || context->tokens_lost;
}

void tokens_describe(const struct ubatch_tokens * tokens, struct routing_ubatch * ubatch) {
    ubatch->number         = tokens->number;
    ubatch->batch          = tokens->batch;
    ubatch->time           = tokens->time;
    ubatch->tokens         = tokens->n > 0 ? tokens->tokens : NULL;
    ubatch->tokens_lost    = tokens->lost;
    ubatch->rows_known     = tokens->rows_known;
    ubatch->rows_ambiguous = tokens->rows_ambiguous;
}

bool tokens_describe_rows(const struct ubatch_tokens * tokens, struct routing_layer * layer) {
    const bool is_reduced = tokens->n > 0 && layer->n_tokens != tokens->n;
    layer->rows = is_reduced ? tokens->outputs : NULL;
    return !is_reduced || layer->n_tokens == tokens->n_outputs || layer->n_tokens == 0;
}
