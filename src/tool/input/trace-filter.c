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

static bool parse_phases(const char * text, unsigned * phases) {
    static const char * const names[] = { "prompt", "generation", "warmup" };
    for (*phases = 0;;) {
        const size_t n = strcspn(text, ",");
        size_t       i = 0;
        while (i < 3 && (strlen(names[i]) != n || strncmp(text, names[i], n) != 0)) {
            i++;
        }
        if (i == 3) {
            return false;
        }
        *phases |= 1u << i;
        if (text[n] == '\0') {
            return true;
        }
        text += n + 1;
    }
}

static enum trace_filter_answer take_list(struct number_list * list, const char * name, const char * value, struct error * error) {
    if (parse_list(value, list)) {
        return TRACE_FILTER_TAKEN;
    }
    error_set(error, "--%s needs numbers such as 0,3-5,9-, not '%s'", name, value);
    return TRACE_FILTER_WRONG;
}

static enum trace_filter_answer take_phases(unsigned * phases, const char * value, struct error * error) {
    if (parse_phases(value, phases)) {
        return TRACE_FILTER_TAKEN;
    }
    error_set(error, "--phase is prompt, generation or warmup, or several with commas between them, not '%s'", value);
    return TRACE_FILTER_WRONG;
}

enum trace_filter_answer trace_filter_option(struct trace_filter * filter, int option, const char * value, struct error * error) {
    switch (option) {
        case OPTION_LAYER:       return take_list(&filter->layers,    "layer",    value, error);
        case OPTION_SEQUENCE:    return take_list(&filter->sequences, "sequence", value, error);
        case OPTION_TOKENS:      return take_list(&filter->positions, "tokens",   value, error);
        case OPTION_UBATCH:      return take_list(&filter->ubatches,  "ubatch",   value, error);
        case OPTION_PHASE:       return take_phases(&filter->phases, value, error);
        case OPTION_WARMUP:      filter->warmup      = TRACE_WARMUP_WITH;    return TRACE_FILTER_TAKEN;
        case OPTION_NO_WARMUP:   filter->warmup      = TRACE_WARMUP_WITHOUT; return TRACE_FILTER_TAKEN;
        case OPTION_REJECTED:    filter->no_rejected = false;                return TRACE_FILTER_TAKEN;
        case OPTION_NO_REJECTED: filter->no_rejected = true;                 return TRACE_FILTER_TAKEN;
        case OPTION_MTP:         filter->mtp         = true;                 return TRACE_FILTER_TAKEN;
        default:                 return TRACE_FILTER_OTHER;
    }
}

void trace_filter_free(struct trace_filter * filter) {
    free(filter->layers.ranges);
    free(filter->sequences.ranges);
    free(filter->positions.ranges);
    free(filter->ubatches.ranges);
}

static bool tells_phases_apart(const struct trace_filter * filter) {
    const unsigned phases = filter->phases & (TRACE_PHASE_PROMPT | TRACE_PHASE_GENERATION);
    return phases == TRACE_PHASE_PROMPT || phases == TRACE_PHASE_GENERATION;
}

bool trace_filter_fits(const struct trace_filter * filter, const struct trace_info * info, struct error * error) {
    const char * unknown = filter->sequences.n > 0 ? "--sequence" : filter->positions.n > 0 ? "--tokens"
                         : tells_phases_apart(filter) ? "--phase" : NULL;
    if (info->shared_window > 0 && (filter->sequences.n > 0 || filter->positions.n > 0)) {
        return error_set(error, "made by `pack --share`: sequences and positions are gone, so %s cannot choose",
                         unknown);
    }
    if (info->phases_known || unknown == NULL) {
        return true;
    }
    return error_set(error, "has no phases, sequences and positions, so %s cannot choose: the program called llama.cpp in a way that shows none",
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

static bool has_phase(const struct trace_filter * filter, const struct trace_ubatch * ubatch, const struct trace_token * token) {
    if (!ubatch->warmup) {
        return (phases_chosen(filter) & (token->generation ? TRACE_PHASE_GENERATION : TRACE_PHASE_PROMPT)) != 0;
    }
    const bool chosen = (phases_chosen(filter) & TRACE_PHASE_WARMUP) != 0;
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
