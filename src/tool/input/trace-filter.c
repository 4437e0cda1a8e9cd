// Takes the options that choose a part of a trace, and says what they choose.

#include "tool/input/trace-filter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

//
// lists of numbers
//

static bool parse_number(const char ** text, uint64_t * number) {
    if (**text < '0' || **text > '9') {
        return false;
    }
    char * end;
    errno   = 0;
    *number = strtoull(*text, &end, 10);
    *text   = end;
    return errno == 0;
}

static bool parse_range(const char ** text, struct number_range * range) {
    if (!parse_number(text, &range->first)) {
        return false;
    }
    range->last = range->first;
    if (**text == '-') {
        (*text)++;
        range->last = UINT64_MAX;
        if (**text != ',' && **text != '\0' && !parse_number(text, &range->last)) {
            return false;
        }
    }
    return range->first <= range->last;
}

static bool parse_list(const char * text, struct number_list * list) {
    for (;;) {
        struct number_range range;
        if (!parse_range(&text, &range)) {
            return false;
        }
        list->ranges = memory_resize(list->ranges, list->n + 1, sizeof(*list->ranges));
        list->ranges[list->n++] = range;
        if (*text == '\0') {
            return true;
        }
        if (*text++ != ',') {
            return false;
        }
    }
}

static bool list_has(const struct number_list * list, int64_t number) {
    for (size_t i = 0; i < list->n; i++) {
        if (number >= 0 && (uint64_t) number >= list->ranges[i].first && (uint64_t) number <= list->ranges[i].last) {
            return true;
        }
    }
    return list->n == 0;
}

//
// the options
//

const struct option_choice trace_filter_phases[] = {
    { "prompt", NULL }, { "generation", NULL }, { "warmup", NULL }, { 0 },
};

bool trace_filter_take_list(const char * text, void * place, struct error * error) {
    (void) error;
    return parse_list(text, place);
}

// Sets the phase's bit. Returns false where there is none of that name.
static bool add_phase(unsigned * phases, const char * name, size_t length) {
    for (unsigned i = 0; trace_filter_phases[i].name != NULL; i++) {
        if (strlen(trace_filter_phases[i].name) == length && strncmp(trace_filter_phases[i].name, name, length) == 0) {
            *phases |= 1u << i;
            return true;
        }
    }
    return false;
}

bool trace_filter_take_phases(const char * text, void * place, struct error * error) {
    (void) error;
    unsigned * phases = place;
    for (*phases = 0;; text++) {
        const size_t length = strcspn(text, ",");
        if (!add_phase(phases, text, length)) {
            return false;
        }
        text += length;
        if (*text == '\0') {
            return true;
        }
    }
}

void trace_filter_free(struct trace_filter * filter) {
    free(filter->layers.ranges);
    free(filter->sequences.ranges);
    free(filter->positions.ranges);
    free(filter->ubatches.ranges);
}

static bool tells_phases_apart(const struct trace_filter * filter) {
    const unsigned phases = filter->phases & PHASES_OF_TOKENS;
    return phases == PHASE_BIT(PHASE_PROMPT) || phases == PHASE_BIT(PHASE_GENERATION);
}

// "0 to 47": the layers that tables have, to be freed.
static char * layers_text(const struct trace_info * info) {
    int32_t least = INT32_MAX;
    int32_t most  = -1;
    for (size_t i = 0; i < info->n_tables; i++) {
        for (size_t j = 0; j < info->tables[i].n_layers; j++) {
            const int32_t layer = info->tables[i].layers[j].layer;
            least = layer < least ? layer : least;
            most  = layer > most  ? layer : most;
        }
    }
    return most < 0 ? memory_text("none") : least == most ? memory_text("%d", (int) most)
                    : memory_text("%d to %d", (int) least, (int) most);
}

static bool has_layer_of(const struct trace_info * info, const struct number_range * range) {
    for (size_t i = 0; i < info->n_tables; i++) {
        for (size_t j = 0; j < info->tables[i].n_layers; j++) {
            const int32_t layer = info->tables[i].layers[j].layer;
            if (layer >= 0 && (uint64_t) layer >= range->first && (uint64_t) layer <= range->last) {
                return true;
            }
        }
    }
    return false;
}

// Each of the ranges has one at least.
static bool layers_are_known(const struct trace_filter * filter, const struct trace_info * info, struct error * error) {
    for (size_t i = 0; i < filter->layers.n; i++) {
        const struct number_range * range = &filter->layers.ranges[i];
        if (!has_layer_of(info, range)) {
            char * known = layers_text(info);
            error_set(error, "--layer %llu: there is no such layer with experts (there are %s)",
                      (unsigned long long) range->first, known);
            free(known);
            return false;
        }
    }
    return true;
}

bool trace_filter_fits(const struct trace_filter * filter, const struct trace_info * info, struct error * error) {
    const char * unknown = filter->sequences.n > 0 ? "--sequence" : filter->positions.n > 0 ? "--tokens"
                         : tells_phases_apart(filter) ? "--phase" : NULL;
    if (info->shared_window > 0 && (filter->sequences.n > 0 || filter->positions.n > 0)) {
        return error_set(error, "made by `pack --share`: sequences and positions are gone, so %s cannot choose",
                         unknown);
    }
    if (info->phases_known || unknown == NULL) {
        return layers_are_known(filter, info, error);
    }
    return error_set(error, "has no phases, sequences and positions, so %s cannot choose: the program called "
                     "llama.cpp in a way that shows none",
                     unknown);
}

//
// what is chosen
//

uint64_t trace_filter_first_ubatch(const struct trace_filter * filter) {
    uint64_t first = filter->ubatches.n == 0 ? 0 : UINT64_MAX;
    for (size_t i = 0; i < filter->ubatches.n; i++) {
        first = filter->ubatches.ranges[i].first < first ? filter->ubatches.ranges[i].first : first;
    }
    return first;
}

bool trace_filter_is_past(const struct trace_filter * filter, uint64_t ubatch) {
    uint64_t last = filter->ubatches.n == 0 ? UINT64_MAX : 0;
    for (size_t i = 0; i < filter->ubatches.n; i++) {
        last = filter->ubatches.ranges[i].last > last ? filter->ubatches.ranges[i].last : last;
    }
    return ubatch > last;
}

bool trace_filter_has_ubatch(const struct trace_filter * filter, const struct trace_ubatch * ubatch) {
    return list_has(&filter->ubatches, (int64_t) ubatch->number) && (filter->mtp || !ubatch->mtp);
}

static unsigned phases_chosen(const struct trace_filter * filter) {
    return filter->phases == 0 ? filter->default_phases : filter->phases;
}

static bool has_phase(const struct trace_filter * filter, const struct trace_ubatch * ubatch,
                      const struct trace_token * token) {
    if (!ubatch->warmup) {
        return (phases_chosen(filter) & PHASE_BIT(token->generation ? PHASE_GENERATION : PHASE_PROMPT)) != 0;
    }
    const bool chosen = (phases_chosen(filter) & PHASE_BIT(PHASE_WARMUP)) != 0;
    return filter->warmup == TRACE_WARMUP_AS_PHASES_SAY ? chosen : filter->warmup == TRACE_WARMUP_WITH;
}

bool trace_filter_has_token(const struct trace_filter * filter, const struct trace_ubatch * ubatch, int32_t i_token) {
    const struct trace_token * token = &ubatch->tokens[i_token];
    return has_phase(filter, ubatch, token)
        && (!token->rejected || !filter->no_rejected)
        && list_has(&filter->sequences, token->sequence)
        && list_has(&filter->positions, token->position);
}

bool trace_filter_has_layer(const struct trace_filter * filter, int32_t layer) {
    return list_has(&filter->layers, layer);
}
