// Formats of a line for each token or layer: csv, jsonl, moe-trace and moe-cache-profile.

#include "commands/export/export-format.h"

#include "tool/input/trace-input.h"

#include <math.h>
#include <stdlib.h>

static bool begin_nothing(struct trace_export * export, struct error * error) {
    (void) export;
    (void) error;
    return true;
}

static bool end_nothing(struct trace_export * export, bool ok, struct error * error) {
    (void) export;
    (void) error;
    return ok;
}

static void comma(FILE * out) {
    putc_unlocked(',', out);
}

// Nothing where it is not known.
static void cell(FILE * out, int64_t number) {
    comma(out);
    if (number >= 0) {
        export_number(out, number);
    }
}

static const char * phase_name(const struct trace_export * export, const struct trace_token * token) {
    return !export->info->phases_known ? "" : token->generation ? "generation" : "prompt";
}

//
// csv: a row for each token and layer
//

static void print_numbered(FILE * out, const char * name, int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        fprintf(out, ",%s%d", name, (int) i);
    }
}

static bool begin_csv(struct trace_export * export, struct error * error) {
    (void) error;
    const int32_t n_used = export_n_used(export->info);
    fputs("ubatch,token,context,sequence,life,position,phase,warmup,rejected", export->out);
    fputs(export->info->has_tokens ? ",token_id" : "", export->out);
    fputs(",layer", export->out);
    print_numbered(export->out, "expert", n_used);
    print_numbered(export->out, "weight", export->info->has_weights ? n_used : 0);
    putc('\n', export->out);
    return true;
}

static void print_csv_token(const struct trace_export * export, const struct trace_ubatch * ubatch, int32_t i_token) {
    FILE                     * out   = export->out;
    const struct trace_token * token = &ubatch->tokens[i_token];
    export_number(out, (int64_t) ubatch->number);
    cell(out, i_token);
    cell(out, ubatch->context);
    cell(out, token->sequence);
    cell(out, token->sequence < 0 ? -1 : token->life);
    cell(out, token->position);
    comma(out);
    fputs_unlocked(phase_name(export, token), out);
    cell(out, ubatch->warmup);
    cell(out, token->rejected);
    if (export->info->has_tokens) {
        cell(out, token->id);
    }
}

static void print_csv_layer(const struct trace_export * export, const struct trace_routing * routing, int32_t row,
                            int32_t n_used) {
    const uint16_t * experts = export_experts_of(routing, row);
    const float    * weights = export_weights_of(routing, row);
    cell(export->out, routing->layer);
    for (int32_t i = 0; i < n_used; i++) {
        cell(export->out, i < routing->n_used ? experts[i] : -1);
    }
    for (int32_t i = 0; export->info->has_weights && i < n_used; i++) {
        comma(export->out);
        if (weights != NULL && i < routing->n_used) {
            fprintf(export->out, "%.5g", (double) weights[i]);
        }
    }
    putc_unlocked('\n', export->out);
}

static bool write_csv(struct trace_export * export, const struct export_ubatch * ubatch, struct error * error) {
    (void) error;
    const int32_t n_used = export_n_used(export->info);
    for (size_t i = 0; i < ubatch->n_tokens; i++) {
        for (size_t k = 0; k < ubatch->n_layers; k++) {
            const int32_t row = trace_input_row(ubatch->layers[k], ubatch->tokens[i]);
            if (row >= 0) {
                print_csv_token(export, ubatch->all, ubatch->tokens[i]);
                print_csv_layer(export, ubatch->layers[k], row, n_used);
            }
        }
    }
    return true;
}

const struct export_format export_csv = {
    .name   = "csv",
    .kind   = FILE_KIND_CSV,
    .begin  = begin_csv,
    .ubatch = write_csv,
    .end    = end_nothing,
};

//
// jsonl: an object for each token
//

static void print_member(FILE * out, const char * name, int64_t number) {
    fprintf(out, ",\"%s\":", name);
    if (number < 0) {
        fputs("null", out);
    } else {
        export_number(out, number);
    }
}

static const char * boolean(bool value) {
    return value ? "true" : "false";
}

static void print_json_token(const struct trace_export * export, const struct trace_ubatch * ubatch, int32_t i_token) {
    FILE                     * out   = export->out;
    const struct trace_token * token = &ubatch->tokens[i_token];
    fputs("{\"ubatch\":", out);
    export_number(out, (int64_t) ubatch->number);
    print_member(out, "token",    i_token);
    print_member(out, "context",  ubatch->context);
    print_member(out, "sequence", token->sequence);
    print_member(out, "life",     token->sequence < 0 ? -1 : token->life);
    print_member(out, "position", token->position);
    if (export->info->phases_known) {
        fprintf(out, ",\"phase\":\"%s\"", phase_name(export, token));
    }
    fprintf(out, ",\"output\":%s,\"warmup\":%s,\"rejected\":%s", boolean(token->output), boolean(ubatch->warmup),
            boolean(token->rejected));
    if (export->info->has_tokens) {
        print_member(out, "token_id", token->id);
    }
}

static void print_json_layer(FILE * out, const struct trace_routing * routing, int32_t row) {
    const uint16_t * experts = export_experts_of(routing, row);
    const float    * weights = export_weights_of(routing, row);
    fprintf(out, "{\"layer\":%d,\"experts\":", (int) routing->layer);
    for (int32_t i = 0; i < routing->n_used; i++) {
        putc_unlocked(i == 0 ? '[' : ',', out);
        export_number(out, experts[i]);
    }
    fputs(weights == NULL ? "]}" : "],\"weights\":", out);
    for (int32_t i = 0; weights != NULL && i < routing->n_used; i++) {
        fprintf(out, isfinite(weights[i]) ? "%c%.5g" : "%cnull", i == 0 ? '[' : ',', (double) weights[i]);
    }
    fputs(weights == NULL ? "" : "]}", out);
}

static bool write_jsonl(struct trace_export * export, const struct export_ubatch * ubatch, struct error * error) {
    (void) error;
    for (size_t i = 0; i < ubatch->n_tokens; i++) {
        const char * before = "";
        print_json_token(export, ubatch->all, ubatch->tokens[i]);
        fputs(",\"layers\":[", export->out);
        for (size_t k = 0; k < ubatch->n_layers; k++) {
            const int32_t row = trace_input_row(ubatch->layers[k], ubatch->tokens[i]);
            if (row >= 0) {
                fputs(before, export->out);
                print_json_layer(export->out, ubatch->layers[k], row);
                before = ",";
            }
        }
        fputs("]}\n", export->out);
    }
    return true;
}

const struct export_format export_jsonl = {
    .name   = "jsonl",
    .kind   = FILE_KIND_JSONL,
    .begin  = begin_nothing,
    .ubatch = write_jsonl,
    .end    = end_nothing,
};

//
// moe-trace: "layer,expert" for each activation
//

static void print_activations(FILE * out, const struct trace_routing * routing, int32_t row) {
    const uint16_t * experts = export_experts_of(routing, row);
    for (int32_t i = 0; i < routing->n_used; i++) {
        export_number(out, routing->layer);
        cell(out, experts[i]);
        putc_unlocked('\n', out);
    }
}

static bool write_moe_trace(struct trace_export * export, const struct export_ubatch * ubatch, struct error * error) {
    (void) error;
    for (size_t i = 0; i < ubatch->n_layers; i++) {
        for (int32_t row = 0; row < ubatch->layers[i]->n_rows; row++) {
            if (ubatch->is_chosen[export_token_of(ubatch->layers[i], row)]) {
                print_activations(export->out, ubatch->layers[i], row);
            }
        }
    }
    return true;
}

const struct export_format export_moe_trace = {
    .name   = "moe-trace",
    .kind   = FILE_KIND_UNMARKED,
    .begin  = begin_nothing,
    .ubatch = write_moe_trace,
    .end    = end_nothing,
};

//
// moe-cache-profile: "pos,layer,id0,id1,…", prompt rows from below zero to -1, generation from 0 on
//

struct profile {
    int64_t   prompt;     // position of the next token of a prompt
    int64_t   generation; // likewise
    int64_t * positions;  // of the ubatch's tokens, by index
    size_t    room;
};

static bool begin_profile(struct trace_export * export, struct error * error) {
    (void) error;
    struct profile * profile = memory_new(1, sizeof(*profile));
    profile->prompt = -(int64_t) export->survey->n_prompt;
    export->data    = profile;
    return true;
}

static void number_tokens(struct profile * profile, const struct export_ubatch * ubatch) {
    const size_t n = (size_t) ubatch->all->n_tokens;
    if (n > profile->room) {
        profile->room      = n;
        profile->positions = memory_resize(profile->positions, n, sizeof(*profile->positions));
    }
    for (size_t i = 0; i < ubatch->n_tokens; i++) {
        const int32_t token = ubatch->tokens[i];
        profile->positions[token] = ubatch->all->tokens[token].generation ? profile->generation++ : profile->prompt++;
    }
}

static void print_profile_row(FILE * out, int64_t position, const struct trace_routing * routing, int32_t row) {
    const uint16_t * experts = export_experts_of(routing, row);
    export_number(out, position);
    cell(out, routing->layer);
    for (int32_t i = 0; i < routing->n_used; i++) {
        cell(out, experts[i]);
    }
    putc_unlocked('\n', out);
}

static bool write_profile(struct trace_export * export, const struct export_ubatch * ubatch, struct error * error) {
    (void) error;
    struct profile * profile = export->data;
    number_tokens(profile, ubatch);
    for (size_t i = 0; i < ubatch->n_layers; i++) {
        const struct trace_routing * routing = ubatch->layers[i];
        for (int32_t row = 0; row < routing->n_rows; row++) {
            const int32_t token = export_token_of(routing, row);
            if (ubatch->is_chosen[token]) {
                print_profile_row(export->out, profile->positions[token], routing, row);
            }
        }
    }
    return true;
}

static bool end_profile(struct trace_export * export, bool ok, struct error * error) {
    (void) error;
    struct profile * profile = export->data;
    if (profile != NULL) {
        free(profile->positions);
        free(profile);
    }
    return ok;
}

const struct export_format export_moe_cache_profile = {
    .name         = "moe-cache-profile",
    .kind         = FILE_KIND_UNMARKED,
    .needs_survey = true,
    .begin        = begin_profile,
    .ubatch       = write_profile,
    .end          = end_profile,
};
