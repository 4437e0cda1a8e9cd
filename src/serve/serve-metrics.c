// Writes counters as Prometheus' text format 0.0.4, or as OpenMetrics 1.0: family by family, from one look at each
// process.

#include "serve/serve-metrics.h"

#include "analysis/counts.h"
#include "base/clean.h"
#include "base/text.h"
#include "serve/serve-models.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "llama_expert_tracer_"

struct scraped_process {
    const struct serve_process * process;
    bool                         is_up;
    struct live_view             view;
    struct serve_model         * models;   // [view.n_models]
};

struct scrape {
    const struct serve_metrics * metrics;
    struct text                  text;
    struct scraped_process     * processes;
    size_t                       n;
    uint64_t                     n_errors;
};

//
// one look
//

static void look_at(struct scrape * scrape, struct serve_processes * processes, struct serve_process ** list) {
    scrape->processes = memory_new(scrape->n, sizeof(*scrape->processes));
    for (size_t i = 0; i < scrape->n; i++) {
        struct error             error;
        struct scraped_process * scraped = &scrape->processes[i];
        scraped->process = list[i];
        scraped->is_up   = serve_processes_read(processes, list[i], &scraped->view, &error);
        scraped->models  = serve_models_new(&scraped->view);
    }
    scrape->n_errors = serve_processes_n_errors(processes);
}

static void forget(struct scrape * scrape) {
    for (size_t i = 0; i < scrape->n; i++) {
        live_view_free(&scrape->processes[i].view);
        free(scrape->processes[i].models);
    }
    free(scrape->processes);
}

//
// words of the format
//

// A family begins. Of a counter OpenMetrics has the name without its end.
static void begin(struct scrape * scrape, const char * name, const char * type, const char * help) {
    const bool   openmetrics = scrape->metrics->openmetrics;
    const bool   is_counter  = strcmp(type, "counter") == 0;
    const bool   is_info     = strcmp(type, "info") == 0;
    const char * end         = openmetrics ? "" : is_counter ? "_total" : is_info ? "_info" : "";
    text_add(&scrape->text, "# HELP " PREFIX "%s%s %s\n# TYPE " PREFIX "%s%s %s\n", name, end, help, name, end,
             is_info && !openmetrics ? "gauge" : type);
}

// Three characters are escaped; what is no text, or would not be harmless to see, is not shown.
static void add_value(struct scrape * scrape, const char * value) {
    char clean[SERVE_LABEL_MAX];
    clean_copy(clean, sizeof(clean), value == NULL ? "" : value);
    for (const char * at = clean; *at != '\0'; at++) {
        text_add(&scrape->text, *at == '\\' || *at == '"' ? "\\%c" : "%c", *at);
    }
}

static void add_label(struct scrape * scrape, const char * name, const char * value) {
    text_add(&scrape->text, ",%s=\"", name);
    add_value(scrape, value);
    text_add(&scrape->text, "\"");
}

static void begin_process(struct scrape * scrape, const char * name, const struct scraped_process * process) {
    text_add(&scrape->text, PREFIX "%s{process=\"", name);
    add_value(scrape, process->process->label);
    text_add(&scrape->text, "\"");
}

static void end_count(struct scrape * scrape, uint64_t count) {
    text_add(&scrape->text, "} %" PRIu64 "\n", count);
}

//
// families of processes
//

static void put_up(struct scrape * scrape) {
    begin(scrape, "up", "gauge", "Whether the counters of the process could be read (1) or not (0).");
    for (size_t i = 0; i < scrape->n; i++) {
        begin_process(scrape, "up", &scrape->processes[i]);
        end_count(scrape, scrape->processes[i].is_up);
    }
}

static void put_process_info(struct scrape * scrape) {
    begin(scrape, "process", "info", "What is known of a traced process.");
    for (size_t i = 0; i < scrape->n; i++) {
        const struct scraped_process * scraped = &scrape->processes[i];
        const struct live_client     * client  = &scraped->process->client;
        char                           pid[32];
        snprintf(pid, sizeof(pid), "%lld", client->pid > 0 ? (long long) client->pid : (long long) scraped->view.pid);
        begin_process(scrape, "process_info", scraped);
        add_label(scrape, "pid",     pid);
        add_label(scrape, "program", scraped->view.program);
        add_label(scrape, "tracer",  scraped->view.tracer);
        end_count(scrape, 1);
    }
}

static void put_start(struct scrape * scrape) {
    begin(scrape, "process_start_time_seconds", "gauge", "When the tracer of the process began, since 1970.");
    for (size_t i = 0; i < scrape->n; i++) {
        begin_process(scrape, "process_start_time_seconds", &scrape->processes[i]);
        const int64_t started = scrape->processes[i].process->started;
        text_add(&scrape->text, "} %" PRId64 ".%06d\n", started / 1000000, (int) (started < 0 ? 0 : started % 1000000));
    }
}

static void put_switch(struct scrape * scrape, const char * name, uint32_t bit, const char * help) {
    begin(scrape, name, "gauge", help);
    for (size_t i = 0; i < scrape->n; i++) {
        if (scrape->processes[i].is_up) {
            begin_process(scrape, name, &scrape->processes[i]);
            end_count(scrape, (scrape->processes[i].view.switches & bit) != 0);
        }
    }
}

static void put_hidden(struct scrape * scrape) {
    begin(scrape, "hidden_contexts", "gauge", "Contexts whose counts the memory of the process has no room to show.");
    for (size_t i = 0; i < scrape->n; i++) {
        if (scrape->processes[i].is_up) {
            begin_process(scrape, "hidden_contexts", &scrape->processes[i]);
            end_count(scrape, scrape->processes[i].view.n_hidden);
        }
    }
}

//
// families of models
//

// Goes through the models of all processes: writes the samples of one.
typedef void (* put_model)(struct scrape * scrape, const struct scraped_process * process,
                           const struct serve_model * model);

static void for_models(struct scrape * scrape, put_model put) {
    for (size_t i = 0; i < scrape->n; i++) {
        for (size_t k = 0; k < scrape->processes[i].view.n_models; k++) {
            put(scrape, &scrape->processes[i], &scrape->processes[i].models[k]);
        }
    }
}

static void begin_model(struct scrape * scrape, const char * name, const struct scraped_process * process,
                        const struct serve_model * model) {
    begin_process(scrape, name, process);
    add_label(scrape, "model", model->label);
}

static void put_model_info(struct scrape * scrape, const struct scraped_process * process,
                           const struct serve_model * model) {
    begin_model(scrape, "model_info", process, model);
    add_label(scrape, "architecture", model->model->architecture);
    add_label(scrape, "engine",       model->model->engine);
    add_label(scrape, "file",         model->model->file);
    add_label(scrape, "capture",      model->model->capture);
    end_count(scrape, 1);
}

static void put_contexts(struct scrape * scrape, const struct scraped_process * process,
                         const struct serve_model * model) {
    begin_model(scrape, "contexts", process, model);
    end_count(scrape, model->model->n_contexts);
}

static void put_phase(struct scrape * scrape, const struct scraped_process * process,
                      const struct serve_model * model, const char * phase, const _Atomic uint64_t * count) {
    begin_model(scrape, "tokens_total", process, model);
    add_label(scrape, "phase", phase);
    end_count(scrape, counter_get(count));
}

static void put_tokens(struct scrape * scrape, const struct scraped_process * process,
                       const struct serve_model * model) {
    const struct counters_totals * totals = &model->model->counts.totals;
    if (model->model->phases_known) {
        put_phase(scrape, process, model, "prompt",     &totals->n_prompt);
        put_phase(scrape, process, model, "generation", &totals->n_generation);
    } else {
        put_phase(scrape, process, model, "unknown",    &totals->n_tokens);
    }
}

#define PUT_TOTAL(function, name, member)                                                    \
    static void function(struct scrape * scrape, const struct scraped_process * process,     \
                         const struct serve_model * model) {                               \
        begin_model(scrape, name, process, model);                                           \
        end_count(scrape, counter_get(&model->model->counts.totals.member));                 \
    }

PUT_TOTAL(put_warmup, "warmup_tokens_total",         n_warmup)
PUT_TOTAL(put_mtp,    "mtp_tokens_total",            n_mtp)
PUT_TOTAL(put_lost,   "unknown_routing_tokens_total", n_lost)

//
// families of layers
//

typedef void (* put_layer)(struct scrape * scrape, const struct counters_layer * layer, const uint64_t * activations);

// A layer's counters as plain values, to be freed.
static uint64_t * row_of(const struct counters_table * table, int32_t layer) {
    const size_t             n    = (size_t) table->layers[layer].n_expert;
    const _Atomic uint64_t * from = counters_row(table, layer);
    uint64_t               * row  = memory_new(n, sizeof(*row));
    for (size_t i = 0; i < n; i++) {
        row[i] = counter_get(&from[i]);
    }
    return row;
}

static void add_layer(struct scrape * scrape, int32_t layer) {
    text_add(&scrape->text, ",layer=\"%d\"", (int) layer);
}

static void for_layers(struct scrape * scrape, const char * name, const struct scraped_process * process,
                       const struct serve_model * model, put_layer put) {
    const struct counters_table * table = &model->model->counts.table;
    for (int32_t i = 0; i < table->n_layers; i++) {
        if (table->layers[i].n_expert > 0) {
            uint64_t * row = row_of(table, i);
            begin_model(scrape, name, process, model);
            add_layer(scrape, i);
            put(scrape, &table->layers[i], row);
            free(row);
        }
    }
}

static void end_rows(struct scrape * scrape, const struct counters_layer * layer, const uint64_t * activations) {
    (void) activations;
    end_count(scrape, counter_get(&layer->n_tokens));
}

static void end_activations(struct scrape * scrape, const struct counters_layer * layer, const uint64_t * activations) {
    end_count(scrape, counts_sum(activations, (size_t) layer->n_expert));
}

static void end_unused(struct scrape * scrape, const struct counters_layer * layer, const uint64_t * activations) {
    end_count(scrape, counts_unused(activations, (size_t) layer->n_expert));
}

static void end_entropy(struct scrape * scrape, const struct counters_layer * layer, const uint64_t * activations) {
    const double entropy = counts_entropy(activations, (size_t) layer->n_expert);
    if (isnan(entropy)) {
        text_add(&scrape->text, "} NaN\n");
    } else {
        text_add(&scrape->text, "} %.6g\n", entropy);
    }
}

#define PUT_LAYERS(function, name, end)                                                  \
    static void function(struct scrape * scrape, const struct scraped_process * process, \
                         const struct serve_model * model) {                           \
        for_layers(scrape, name, process, model, end);                                   \
    }

PUT_LAYERS(put_rows,        "routed_tokens_total",   end_rows)
PUT_LAYERS(put_activations, "activations_total",     end_activations)
PUT_LAYERS(put_unused,      "unused_experts",        end_unused)
PUT_LAYERS(put_entropy,     "routing_entropy_ratio", end_entropy)

static void put_experts(struct scrape * scrape, const struct scraped_process * process,
                        const struct serve_model * model) {
    const struct counters_table * table = &model->model->counts.table;
    for (int32_t i = 0; i < table->n_layers; i++) {
        for (int32_t k = 0; k < table->layers[i].n_expert; k++) {
            begin_model(scrape, "expert_activations_total", process, model);
            add_layer(scrape, i);
            text_add(&scrape->text, ",expert=\"%d\"", (int) k);
            end_count(scrape, counter_get(&counters_row(table, i)[k]));
        }
    }
}

//
// the whole
//

static const struct metric_family {
    const char * name;
    const char * type;
    const char * help;
    put_model    put;
} families[] = {
    { "model",                  "info",    "What is known of a model.",                          put_model_info },
    { "contexts",               "gauge",   "Contexts of the model that are open.",               put_contexts },
    { "tokens",                 "counter", "Tokens that were evaluated, without warm-ups.",      put_tokens },
    { "warmup_tokens",          "counter", "Tokens of warm-ups, which nothing else counts.",     put_warmup },
    { "mtp_tokens",             "counter", "Tokens that a multi-token-prediction head evaluated.", put_mtp },
    { "unknown_routing_tokens", "counter", "Tokens whose routing is not known.",                 put_lost },
    { "routed_tokens",          "counter", "Tokens that were routed in the layer.",              put_rows },
    { "activations",            "counter", "Tokens times experts that they were routed to.",     put_activations },
    { "routing_entropy_ratio",  "gauge",   "How even the use of the layer's experts is since counting began: entropy, "
                                           "1 where all are used alike.",                        put_entropy },
    { "unused_experts",         "gauge",   "Experts of the layer that no token was routed to.",  put_unused },
};

static void put_all(struct scrape * scrape) {
    put_up          (scrape);
    put_process_info(scrape);
    put_start       (scrape);
    put_switch      (scrape, "counting",  LIVE_COUNTS,  "Whether the process counts (1) or does not (0).");
    put_switch      (scrape, "recording", LIVE_RECORDS, "Whether at least one routing trace is written.");
    put_hidden      (scrape);
    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
        begin(scrape, families[i].name, families[i].type, families[i].help);
        for_models(scrape, families[i].put);
    }
    if (scrape->metrics->per_expert) {
        begin(scrape, "expert_activations", "counter", "Tokens that were routed to the expert.");
        for_models(scrape, put_experts);
    }
    begin(scrape, "scrape_errors", "counter", "Attempts to read the counters of a process that failed.");
    text_add(&scrape->text, PREFIX "scrape_errors_total %" PRIu64 "\n", scrape->n_errors);
    if (scrape->metrics->openmetrics) {
        text_add(&scrape->text, "# EOF\n");
    }
}

char * serve_metrics_text(struct serve_processes * processes, const struct serve_metrics * metrics) {
    struct scrape           scrape = { .metrics = metrics };
    struct serve_process ** list   = serve_processes_list(processes, &scrape.n);
    const size_t            n      = scrape.n;
    look_at(&scrape, processes, list);
    put_all(&scrape);
    forget(&scrape);
    serve_processes_release_all(processes, list, n);
    if (scrape.text.failed) {
        text_free(&scrape.text);
    }
    return scrape.text.data;
}
