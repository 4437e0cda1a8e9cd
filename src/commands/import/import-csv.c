// csv: our own, a row for each token and layer. Columns are found by their names; what a column would tell is not known
// where it is missing, or where its cell is empty.

#include "commands/import/import-format.h"

#include "trace/format/trace-format.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_COLUMNS "ubatch,token,"

enum column {
    UBATCH, TOKEN, CONTEXT, SEQUENCE, LIFE, POSITION, PHASE, WARMUP, REJECTED, TOKEN_ID, LAYER, EXPERTS, WEIGHTS,
    N_COLUMNS,
};

// The last two are the first of several.
static const char * const column_names[N_COLUMNS] = {
    "ubatch", "token", "context", "sequence", "life", "position", "phase", "warmup", "rejected", "token_id", "layer",
    "expert0", "weight0",
};

#define REQUIRED (1u << UBATCH | 1u << TOKEN | 1u << LAYER | 1u << EXPERTS)

struct csv {
    struct import      * import;
    size_t               columns[N_COLUMNS]; // from 1, 0: there is none
    int32_t              n_used;             // columns of experts
    struct import_ubatch ubatch;
    int32_t              experts[TRACE_USED_MAX];
    float                gates  [TRACE_USED_MAX];
};

static bool recognises(const char * head, size_t size) {
    return import_begins_as(head, size, FIRST_COLUMNS);
}

//
// the names of the columns
//

// How many columns there are of name0, name1 and so on, one behind the other.
static int32_t count_columns(const struct import_input * input, size_t first, const char * name) {
    int32_t n = 0;
    for (bool found = first > 0; found && n < TRACE_USED_MAX; n += found) {
        char * wanted = memory_text("%s%d", name, (int) n);
        found = first + (size_t) n <= input->n_cells && strcmp(input->cells[first - 1 + (size_t) n], wanted) == 0;
        free(wanted);
    }
    return n;
}

static bool read_columns(struct csv * csv, struct error * error) {
    struct import_input * input = csv->import->input;
    if (!import_input_columns(input, column_names, N_COLUMNS, REQUIRED, csv->columns, error)) {
        return false;
    }
    csv->n_used = count_columns(input, csv->columns[EXPERTS], "expert");
    return csv->columns[WEIGHTS] == 0 || count_columns(input, csv->columns[WEIGHTS], "weight") == csv->n_used
        || import_input_fail(input, csv->columns[WEIGHTS], error, "not as many columns of weights as of experts");
}

//
// rows
//

static bool is_empty(const struct csv * csv, enum column column) {
    const struct import_input * input = csv->import->input;
    return csv->columns[column] == 0
        || (csv->columns[column] <= input->n_cells && input->cells[csv->columns[column] - 1][0] == '\0');
}

// `unknown` where the cell is empty.
static bool read_cell(const struct csv * csv, enum column column, int64_t most, int32_t unknown, int32_t * number,
                      struct error * error) {
    int64_t value = unknown;
    const bool ok = is_empty(csv, column)
                 || import_input_number(csv->import->input, csv->columns[column], column_names[column], 0, most,
                                        &value, error);
    *number = (int32_t) value;
    return ok;
}

static bool read_flag(const struct csv * csv, enum column column, bool * flag, struct error * error) {
    int32_t    number;
    const bool ok = read_cell(csv, column, 1, 0, &number, error);
    *flag = number == 1;
    return ok;
}

// Of all rows, or of none.
static bool read_phase(const struct csv * csv, bool * generation, struct error * error) {
    const struct import_input * input = csv->import->input;
    const size_t                cell  = csv->columns[PHASE];
    const char                * text  = is_empty(csv, PHASE) || cell > input->n_cells ? "" : input->cells[cell - 1];
    const bool                  known = import_trace_about(csv->import->trace)->phases_known;
    *generation = strcmp(text, "generation") == 0;
    return (known && *generation) || strcmp(text, known ? "prompt" : "") == 0
        || import_input_fail(input, cell, error, "the phase is '%.40s', and can be %s", text,
                             known ? "prompt or generation" : "nothing, as in the first row");
}

static bool read_token(const struct csv * csv, struct expert_tracer_token * token, struct error * error) {
    *token = (struct expert_tracer_token) { .id = -1 };
    return read_cell(csv, SEQUENCE, INT32_MAX - 1, -1, &token->sequence, error)
        && read_cell(csv, LIFE, INT32_MAX - 1, 0, &token->life, error)
        && read_cell(csv, POSITION, INT32_MAX - 1, -1, &token->position, error)
        && read_cell(csv, TOKEN_ID, INT32_MAX - 1, -1, &token->id, error)
        && read_phase(csv, &token->generation, error);
}

// Of a layer with fewer experts than others the last cells are empty.
static int32_t count_experts(const struct csv * csv) {
    const struct import_input * input = csv->import->input;
    int32_t                     n     = csv->n_used;
    while (n > 0 && csv->columns[EXPERTS] - 1 + (size_t) n <= input->n_cells
           && input->cells[csv->columns[EXPERTS] - 2 + (size_t) n][0] == '\0') {
        n--;
    }
    return n;
}

static bool read_experts(struct csv * csv, struct import_row * row, struct error * error) {
    const struct import_input * input = csv->import->input;
    bool                        ok    = true;
    row->n_used = count_experts(csv);
    for (int32_t i = 0; ok && i < row->n_used; i++) {
        int64_t id;
        ok = import_input_number(input, csv->columns[EXPERTS] + (size_t) i, "expert", 0, TRACE_EXPERTS_MAX - 1, &id,
                                 error);
        csv->experts[i] = ok ? (int32_t) id : 0;
    }
    row->experts = csv->experts;
    return ok;
}

static bool read_weights(struct csv * csv, struct import_row * row, struct error * error) {
    const struct import_input * input = csv->import->input;
    bool                        ok    = true;
    for (int32_t i = 0; ok && csv->columns[WEIGHTS] > 0 && i < row->n_used; i++) {
        const size_t cell     = csv->columns[WEIGHTS] + (size_t) i;
        const bool   is_there = cell > input->n_cells || input->cells[cell - 1][0] != '\0';
        csv->gates[i] = NAN;
        ok            = !is_there || import_input_real(input, cell, "weight", &csv->gates[i], error);
        row->gates    = is_there ? csv->gates : row->gates;
    }
    return ok;
}

static bool take_row(struct csv * csv, int64_t key, bool rejected, struct error * error) {
    const struct import_input * input = csv->import->input;
    struct import_trace       * trace = csv->import->trace;
    struct expert_tracer_token  token;
    struct import_row           row   = { 0 };
    struct error                why;
    int32_t                     at;
    if (!read_token(csv, &token, error) || !read_cell(csv, LAYER, TRACE_LAYERS_MAX - 1, -1, &row.layer, error)
            || !read_experts(csv, &row, error) || !read_weights(csv, &row, error)) {
        return false;
    }
    if (row.layer < 0) {
        return import_input_fail(input, csv->columns[LAYER], error, "no layer");
    }
    row.token = import_trace_token(trace, key, &token);
    if (rejected) {
        import_trace_reject(trace, row.token);
    }
    return import_trace_row(trace, &row, &at, &why)
        || import_input_fail(input, csv->columns[EXPERTS] + (size_t) (at < row.n_used ? at : 0), error, "%.1500s",
                             why.text);
}

// Whether phases are known shows in the first row, and the writer wants to know it then.
static bool begin(struct csv * csv, struct error * error) {
    struct import_about * about = import_trace_about(csv->import->trace);
    about->capture      = "import of csv";
    about->phases_known = !is_empty(csv, PHASE);
    about->tokens       = csv->columns[TOKEN_ID] > 0;
    about->weights      = csv->columns[WEIGHTS]  > 0;
    return import_take_hints(csv->import, error);
}

static bool read_row(struct csv * csv, struct error * error) {
    struct import_input * input = csv->import->input;
    struct import_ubatch  its   = { .first_line = input->number };
    int64_t               key;
    bool                  rejected;
    import_input_split(input);
    return import_input_number(input, csv->columns[UBATCH], "ubatch", 0, INT64_MAX, &its.number, error)
        && import_input_number(input, csv->columns[TOKEN], "token", 0, INT32_MAX - 1, &key, error)
        && read_cell(csv, CONTEXT, INT32_MAX - 1, 0, &its.context, error)
        && read_flag(csv, WARMUP, &its.warmup, error) && read_flag(csv, REJECTED, &rejected, error)
        && (csv->ubatch.first_line > 0 || begin(csv, error))
        && import_enter_ubatch(csv->import, &csv->ubatch, &its, error) && take_row(csv, key, rejected, error);
}

static bool read_lines(struct csv * csv, struct error * error) {
    struct import_input * input = csv->import->input;
    enum import_line      line;
    bool                  ok    = true;
    while (ok && (line = import_input_line(input, error)) != IMPORT_END) {
        ok = line == IMPORT_LINE && (input->number == 1 ? read_columns(csv, error)
                                     : input->line[0] == '\0' || read_row(csv, error));
    }
    return ok && import_leave_ubatch(csv->import, &csv->ubatch, error);
}

static bool read(struct import * import, struct error * error) {
    struct csv * csv = memory_new(1, sizeof(*csv));
    csv->import = import;
    const bool ok = read_lines(csv, error) && import_end_trace(import, error);
    free(csv);
    return ok;
}

const struct import_format import_csv = {
    .name       = "csv",
    .recognises = recognises,
    .read       = read,
};
