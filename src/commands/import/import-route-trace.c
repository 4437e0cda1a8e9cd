// route-trace: the CSV of BigMoeOnEdge's --route-trace, `# route_trace v1`. A preamble tells the model; then there is a
// row for each expert of a token and layer, prompts layer by layer. Columns are found by their names, and more may
// come.

#include "commands/import/import-format.h"

#include "trace/format/trace-format.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_LINE "# route_trace v1"

enum column { TURN, PHASE, STEP, LAYER, SLOT, EXPERT, WEIGHT, N_COLUMNS };

static const char * const column_names[N_COLUMNS] = { "turn", "phase", "step", "layer", "slot", "expert", "weight" };

#define REQUIRED (1u << PHASE | 1u << STEP | 1u << LAYER | 1u << SLOT | 1u << EXPERT)

// Which cell of the matrix a row is of: one token in one layer.
struct place_of_row {
    int32_t turn;
    int32_t phase;
    int32_t step;
    int32_t layer;
};

struct route_trace {
    struct import     * import;
    size_t              columns[N_COLUMNS]; // from 1, 0: there is none
    char              * model;
    char              * architecture;
    uint64_t            first_line;         // of the ubatch, 0: there is none yet
    int32_t             life;
    int32_t             next;               // position that follows all that there were in this life
    struct place_of_row place;              // of the cell, whose experts are these
    uint64_t            line;               // where it begins
    int32_t             n;
    bool                has_gates;
    int32_t             experts[TRACE_USED_MAX];
    float               gates  [TRACE_USED_MAX];
};

static bool recognises(const char * head, size_t size) {
    return import_begins_as(head, size, FIRST_LINE);
}

//
// the preamble
//

// "value" of "# key=value …", up to the next key; to be freed. NULL: the key is not there.
static char * value_of(const char * line, const char * key, const char * next) {
    char       * wanted = memory_text(" %s=", key);
    const char * found  = strstr(line, wanted);
    const char * value  = found == NULL ? NULL : found + strlen(wanted);
    const char * end    = value == NULL ? NULL : strstr(value, next);
    free(wanted);
    const size_t n = value == NULL ? 0 : end == NULL ? strlen(value) : (size_t) (end - value);
    return value == NULL ? NULL : memory_text("%.*s", (int) n, value);
}

// 0 where it is not told.
static bool number_of(const struct import_input * input, const char * key, int64_t most, int64_t * number,
                      struct error * error) {
    char * text = value_of(input->line, key, " ");
    char * end  = text;
    *number = text == NULL ? 0 : strtoll(text, &end, 10);
    const bool ok = text == NULL || (end != text && *end == '\0' && *number >= 0 && *number <= most);
    if (!ok) {
        import_input_fail(input, 0, error, "%s is '%.40s', and can be 0 to %lld", key, text, (long long) most);
    }
    free(text);
    return ok;
}

static bool read_model(struct route_trace * route, struct error * error) {
    const struct import_input * input = route->import->input;
    struct import_about       * about = import_trace_about(route->import->trace);
    int64_t                     n_layer;
    int64_t                     n_expert;
    int64_t                     n_used;
    if (!number_of(input, "n_layer", TRACE_LAYERS_MAX, &n_layer, error)
            || !number_of(input, "n_expert", TRACE_EXPERTS_MAX, &n_expert, error)
            || !number_of(input, "n_expert_used", TRACE_USED_MAX, &n_used, error)) {
        return false;
    }
    if (route->model == NULL) {
        route->model        = value_of(input->line, "model", " arch=");
        route->architecture = value_of(input->line, "arch", " ");
    }
    about->file         = route->model;
    about->architecture = route->architecture;
    about->n_layer      = (int32_t) n_layer;
    about->n_expert     = (int32_t) n_expert;
    about->n_used       = (int32_t) n_used;
    return true;
}

static bool read_layer(const struct route_trace * route, struct error * error) {
    const struct import_input * input = route->import->input;
    int64_t                     layer;
    int64_t                     bytes;
    if (!number_of(input, "layer", TRACE_LAYERS_MAX - 1, &layer, error)
            || !number_of(input, "expert_bytes", INT64_MAX, &bytes, error)) {
        return false;
    }
    if (bytes > 0) {
        import_trace_bytes(route->import->trace, (int32_t) layer, (uint64_t) bytes);
    }
    return true;
}

// Of the preamble: what comes between the rows changes nothing that they were read by.
static bool read_comment(struct route_trace * route, struct error * error) {
    const char * line = route->import->input->line;
    if (route->columns[PHASE] > 0) {
        return true;
    }
    return strstr(line, " model=") != NULL ? read_model(route, error)
         : strstr(line, " layer=") == NULL || read_layer(route, error);
}

// The line with the names.
static bool read_columns(struct route_trace * route, struct error * error) {
    struct import_input * input = route->import->input;
    struct import_about * about = import_trace_about(route->import->trace);
    if (!import_input_columns(input, column_names, N_COLUMNS, REQUIRED, route->columns, error)) {
        return false;
    }
    about->phases_known = true;
    about->weights      = route->columns[WEIGHT] > 0;
    about->capture      = "import of route-trace";
    return import_take_hints(route->import, error);
}

//
// rows
//

// A turn goes on where the one before ended, or begins anew, or where it differs from it.
static void begin_turn(struct route_trace * route, int32_t position) {
    if (position == 0 && route->next > 0) {
        route->life++;
    } else if (position < route->next) {
        import_trace_cut(route->import->trace, &(struct routing_cut) { 0, route->life, position });
    }
    route->next = position;
}

static bool end_cell(struct route_trace * route, struct error * error) {
    const struct place_of_row      * place = &route->place;
    const struct expert_tracer_token token = {
        .id = -1, .life = route->life, .position = place->step, .generation = place->phase == 1,
    };
    const struct import_row row = {
        .layer   = place->layer,
        .token   = import_trace_token(route->import->trace, place->step, &token),
        .n_used  = route->n,
        .experts = route->experts,
        .gates   = route->has_gates ? route->gates : NULL,
    };
    struct error why;
    int32_t      at;
    route->next      = place->step >= route->next ? place->step + 1 : route->next;
    route->n         = 0;
    route->has_gates = false;
    return import_trace_row(route->import->trace, &row, &at, &why)
        || error_set(error, "%s: line %llu, column %zu: %.1500s", route->import->input->name,
                     (unsigned long long) route->line + (unsigned long long) (at < row.n_used ? at : 0),
                     route->columns[EXPERT], why.text);
}

static bool end_ubatch(struct route_trace * route, struct error * error) {
    return (route->n == 0 || end_cell(route, error))
        && import_end_ubatch(route->import, "line", route->first_line, 0, false, error);
}

// The engine writes a batch layer by layer, and a token that it generates is a batch of its own.
static bool begins_ubatch(const struct place_of_row * before, const struct place_of_row * place) {
    return place->turn != before->turn || place->phase != before->phase || place->layer < before->layer
        || (place->phase == 1 && place->step != before->step);
}

static bool is_same_place(const struct place_of_row * one, const struct place_of_row * other) {
    return one->turn == other->turn && one->phase == other->phase && one->step == other->step
        && one->layer == other->layer;
}

static bool begin_cell(struct route_trace * route, const struct place_of_row * place, struct error * error) {
    const uint64_t line  = route->import->input->number;
    const bool     first = route->first_line == 0;
    if (!first && begins_ubatch(&route->place, place)) {
        if (!end_ubatch(route, error)) {
            return false;
        }
        route->first_line = line;
    } else if (!first && !end_cell(route, error)) {
        return false;
    }
    if (!first && place->turn != route->place.turn) {
        begin_turn(route, place->step);
    }
    route->first_line = first ? line : route->first_line;
    route->line       = line;
    route->place      = *place;
    return true;
}

// Numbers of one row, by column.
static bool read_numbers(const struct route_trace * route, int64_t numbers[N_COLUMNS], struct error * error) {
    static const int64_t most[N_COLUMNS] = {
        INT32_MAX - 1, 1, INT32_MAX - 1, TRACE_LAYERS_MAX - 1, TRACE_USED_MAX - 1, TRACE_EXPERTS_MAX - 1, 0,
    };
    bool ok = true;
    for (int column = 0; ok && column < WEIGHT; column++) {
        numbers[column] = 0;
        ok = route->columns[column] == 0
          || import_input_number(route->import->input, route->columns[column], column_names[column], 0, most[column],
                                 &numbers[column], error);
    }
    return ok;
}

static bool take_expert(struct route_trace * route, int32_t slot, int32_t expert, struct error * error) {
    float gate = NAN;
    if (slot != route->n) {
        return import_input_fail(route->import->input, route->columns[SLOT], error,
                                 "slot %d, and %d is to come: rows are missing, or not in their order", (int) slot,
                                 (int) route->n);
    }
    if (route->columns[WEIGHT] > 0
            && !import_input_real(route->import->input, route->columns[WEIGHT], "weight", &gate, error)) {
        return false;
    }
    route->experts[route->n] = expert;
    route->gates  [route->n] = gate;
    route->has_gates         = route->has_gates || !isnan(gate);
    route->n++;
    return true;
}

static bool read_row(struct route_trace * route, struct error * error) {
    struct import_input * input = route->import->input;
    int64_t               numbers[N_COLUMNS];
    import_input_split(input);
    if (!read_numbers(route, numbers, error)) {
        return false;
    }
    const struct place_of_row place = {
        (int32_t) numbers[TURN], (int32_t) numbers[PHASE], (int32_t) numbers[STEP], (int32_t) numbers[LAYER],
    };
    return ((route->n > 0 && is_same_place(&route->place, &place)) || begin_cell(route, &place, error))
        && take_expert(route, (int32_t) numbers[SLOT], (int32_t) numbers[EXPERT], error);
}

static bool read_lines(struct route_trace * route, struct error * error) {
    struct import_input * input = route->import->input;
    enum import_line      line;
    bool                  ok    = true;
    while (ok && (line = import_input_line(input, error)) != IMPORT_END) {
        ok = line == IMPORT_LINE
          && (input->line[0] == '#'       ? read_comment(route, error)
            : route->columns[PHASE] == 0 ? read_columns(route, error)
            : input->line[0] == '\0'     || read_row(route, error));
    }
    return ok && end_ubatch(route, error);
}

static bool read(struct import * import, struct error * error) {
    struct route_trace * route = memory_new(1, sizeof(*route));
    route->import = import;
    const bool ok = read_lines(route, error) && import_end_trace(import, error);
    free(route->model);
    free(route->architecture);
    free(route);
    return ok;
}

const struct import_format import_route_trace = {
    .name       = "route-trace",
    .recognises = recognises,
    .read       = read,
};
