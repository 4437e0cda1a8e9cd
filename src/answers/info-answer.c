// Counts what a trace has of ubatches, tokens and lives, and looks over its tables.

#include "answers/info-answer.h"

#include "tool/input/trace-input.h"
#include "tool/input/trace-lives.h"
#include "tool/progress.h"

#include <math.h>
#include <stdlib.h>

//
// counting
//

static void count_token(struct info_answer * answer, struct trace_lives * lives, const struct trace_ubatch * ubatch,
                        const struct trace_token * token) {
    answer->warmup     += ubatch->warmup;
    answer->prompt     += !ubatch->warmup && !token->generation;
    answer->generation += !ubatch->warmup && token->generation;
    answer->rejected   += token->rejected;
    if (token->sequence >= 0) {
        trace_lives_at(lives, ubatch->context, token->sequence, token->life);
    }
}

static void count_ubatch(struct info_answer * answer, struct trace_lives * lives, const struct trace_ubatch * ubatch) {
    for (int32_t i = 0; i < ubatch->n_tokens; i++) {
        count_token(answer, lives, ubatch, &ubatch->tokens[i]);
    }
    uint64_t * const activations = ubatch->warmup ? &answer->warmup_activations : &answer->activations;
    for (size_t i = 0; i < ubatch->n_layers; i++) {
        *activations += (uint64_t) ubatch->layers[i].n_rows * (uint64_t) ubatch->layers[i].n_used;
    }
    answer->ubatches        += 1;
    answer->tokens          += (uint64_t) ubatch->n_tokens;
    answer->warmup_ubatches += ubatch->warmup;
    answer->mtp_ubatches    += ubatch->mtp;
    answer->cuts            += ubatch->n_cuts;
    answer->batches          = ubatch->batch >= answer->batches ? ubatch->batch + 1 : answer->batches;
    answer->begin            = answer->begin == 0 ? ubatch->time : answer->begin;
    answer->end              = ubatch->time;
}

static bool count(struct info_answer * answer, const struct trace * trace, struct error * error) {
    struct trace_cursor * cursor = trace_cursor_new(trace);
    if (cursor == NULL) {
        return error_set(error, "out of memory");
    }
    struct trace_lives * lives    = trace_lives_new();
    struct progress      progress = progress_begin("counting", trace_about(trace)->file_size);
    struct trace_ubatch  ubatch;
    while (trace_next(cursor, &ubatch)) {
        count_ubatch(answer, lives, &ubatch);
        progress_tell(&progress, trace_cursor_offset(cursor));
    }
    progress_end(&progress);
    answer->lost      = trace_cursor_lost(cursor);
    answer->contexts  = trace_lives_n_contexts(lives);
    answer->sequences = trace_lives_n_sequences(lives);
    answer->lives     = trace_lives_n(lives);
    answer->knows_sequences = answer->info->phases_known && answer->info->shared_window == 0
                           && (answer->sequences > 0 || answer->tokens == 0);
    trace_lives_free(lives);
    trace_cursor_free(cursor);
    return !trace_input_changed(trace, error);
}

//
// tables
//

static void widen(struct info_range * range, int64_t value) {
    range->least = value < range->least ? value : range->least;
    range->most  = value > range->most  ? value : range->most;
}

static bool has_layer(const struct info_answer * answer, int32_t layer) {
    for (size_t i = 0; i < answer->n_layers; i++) {
        if (answer->layers[i].layer == layer) {
            return true;
        }
    }
    return false;
}

static void take_layer(struct info_answer * answer, const struct trace_layer * layer) {
    const int64_t bytes = trace_input_expert_bytes(layer);
    widen(&answer->n_expert,     layer->n_expert);
    widen(&answer->n_used,       layer->n_used);
    widen(&answer->expert_bytes, bytes);
    if (!has_layer(answer, layer->layer)) {
        answer->layers = memory_resize(answer->layers, answer->n_layers + 1, sizeof(*answer->layers));
        answer->layers[answer->n_layers++] = (struct info_layer) {
            layer->layer, layer->n_expert, layer->n_used, bytes,
        };
    }
}

static int64_t bytes_of_experts(const struct info_answer * answer) {
    int64_t sum = 0;
    for (size_t i = 0; i < answer->n_layers; i++) {
        if (answer->layers[i].expert_bytes < 0) {
            return -1;
        }
        sum += answer->layers[i].expert_bytes;
    }
    return answer->n_layers == 0 ? -1 : sum;
}

static void fill_layers(struct info_answer * answer) {
    const struct info_range empty = { INT64_MAX, -1 };
    answer->n_expert     = empty;
    answer->n_used       = empty;
    answer->expert_bytes = empty;
    for (size_t i = 0; i < answer->info->n_tables; i++) {
        for (size_t k = 0; k < answer->info->tables[i].n_layers; k++) {
            take_layer(answer, &answer->info->tables[i].layers[k]);
        }
    }
    answer->bytes = bytes_of_experts(answer);
}

static void fill_rates(struct info_answer * answer) {
    const uint64_t activations = answer->activations + answer->warmup_activations;
    answer->seconds              = (double) (answer->end - answer->begin) / 1e6;
    answer->bytes_per_activation = activations == 0 ? NAN : (double) answer->info->file_size / (double) activations;
}

struct info_answer * info_answer_new(const struct trace * trace, struct error * error) {
    struct info_answer * answer = memory_new(1, sizeof(*answer));
    answer->info = trace_about(trace);
    if (!count(answer, trace, error)) {
        info_answer_free(answer);
        return NULL;
    }
    fill_layers(answer);
    fill_rates (answer);
    answer->is_damaged = trace_input_is_damaged(answer->info, answer->lost);
    return answer;
}

void info_answer_free(struct info_answer * answer) {
    free(answer->layers);
    free(answer);
}
