// Prints the values of a cache answer as tables.

#include "commands/cache/cache-text.h"

#include "analysis/resample.h"
#include "commands/cache/cache-command.h"
#include "commands/cache/cache-verdict.h"
#include "commands/model-text.h"
#include "tool/quantity.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#define COLUMN 7
#define MIB    0x1p20

void cache_text_print_model(const struct cache_answer * answer, const struct terminal * terminal) {
    const struct trace_extent * tokens = &answer->tokens;
    char                        size[QUANTITY_MAX];
    char * experts = memory_text("%zu layers of %d%s, %d for each token", answer->n_layers, (int) answer->n_expert,
                                 answer->same_experts ? "" : " at most", (int) answer->n_used);
    if (answer->bytes_known) {
        quantity_text((double) answer->all_bytes, size);
        experts = memory_append(experts, memory_text("; all together %s", size));
    }
    char * counts = memory_text("%" PRIu64 " prompt, %" PRIu64 " generation, %" PRIu64 " warm-up",
                                tokens->n_prompt, tokens->n_generation, tokens->n_warmup);
    terminal_field_free(terminal, "model",   model_text(&answer->model));
    terminal_field_free(terminal, "experts", experts);
    terminal_field_free(terminal, "tokens",  counts);
}

//
// tables of rates
//

static void print_rate(const struct terminal * terminal, double rate) {
    if (isfinite(rate)) {
        fprintf(terminal->out, "%*.1f%%", COLUMN - 1, 100 * rate);
    } else {
        fprintf(terminal->out, "%*s", COLUMN, "-");
    }
}

static void print_faint(const struct terminal * terminal, const char * text) {
    terminal_style(terminal, TERMINAL_FAINT);
    fputs(text, terminal->out);
    terminal_style(terminal, TERMINAL_PLAIN);
}

// Frees the text.
static void print_faint_paragraph(const struct terminal * terminal, char * text) {
    terminal_style(terminal, TERMINAL_FAINT);
    terminal_paragraph_free(terminal, text);
    terminal_style(terminal, TERMINAL_PLAIN);
}

static void print_strong(const struct terminal * terminal, const char * text) {
    terminal_style(terminal, TERMINAL_STRONG);
    fputs(text, terminal->out);
    terminal_style(terminal, TERMINAL_PLAIN);
}

static bool is_generation(enum phase phase) {
    return phase == PHASE_GENERATION;
}

// A column of a table, from the rates of a size.
struct column {
    const char      * name;
    enum cache_column column;
    bool              is_oracle; // then not `column`
    bool              begins;    // a group of columns
};

static const struct column judged_columns[] = {
    { "static", CACHE_STATIC,         false, false },
    { "prompt", CACHE_STATIC,         true,  false },
    { "LRU",    CACHE_LRU,            false, false },
    { "LFU",    CACHE_LFU,            false, false },
    { "best",   CACHE_OPTIMUM,        false, false },
    { "LRU",    CACHE_SHARED_LRU,     false, true  },
    { "llama",  CACHE_LLAMA,          false, false },
    { "best",   CACHE_SHARED_OPTIMUM, false, false },
};

#define N_JUDGED (sizeof(judged_columns) / sizeof(judged_columns[0]))

static const struct cache_value * value_of(const struct cache_answer_rates * rates, const struct column * column) {
    return column->is_oracle ? &rates->oracle : &rates->columns[column->column];
}

static void print_slots(const struct terminal * terminal, double slots) {
    fprintf(terminal->out, slots == floor(slots) ? "%5.0f" : "%5.1f", slots);
}

// As it was asked for, where it was.
static char * size_text(const struct cache_answer_size * size, char text[QUANTITY_MAX]) {
    const double mib = size->bytes / MIB;
    if (isnan(mib)) {
        snprintf(text, QUANTITY_MAX, "-");
    } else if (size->is_asked && mib < 1e5) {
        snprintf(text, QUANTITY_MAX, "%.0f MiB", mib);
    } else {
        quantity_text(size->bytes, text);
    }
    return text;
}

static void print_size(const struct cache_answer * answer, const struct terminal * terminal, size_t i) {
    const struct cache_answer_size * size = &answer->sizes[i];
    char                             text[QUANTITY_MAX];
    print_slots(terminal, size->slots);
    fprintf(terminal->out, "%6.1f%% %9s", 100 * size->share, size_text(size, text));
}

static void print_row(const struct cache_answer * answer, const struct terminal * terminal, enum phase phase,
                      size_t i) {
    print_size(answer, terminal, i);
    for (size_t j = 0; j < N_JUDGED; j++) {
        fputs(judged_columns[j].begins ? "  " : "", terminal->out);
        print_rate(terminal, value_of(&answer->sizes[i].judged[phase], &judged_columns[j])->value);
    }
    fputc('\n', terminal->out);
}

static double half_width(const struct cache_value * value) {
    return (value->high - value->low) / 2;
}

// How sure a column is, at its worst.
static void print_widths(const struct cache_answer * answer, const struct terminal * terminal, enum phase phase) {
    terminal_style(terminal, TERMINAL_FAINT);
    fprintf(terminal->out, "%22s", "+/- at most");
    for (size_t j = 0; j < N_JUDGED; j++) {
        double most = NAN;
        for (size_t i = 0; i < answer->n_sizes; i++) {
            most = fmax(most, half_width(value_of(&answer->sizes[i].judged[phase], &judged_columns[j])));
        }
        fputs(judged_columns[j].begins ? "  " : "", terminal->out);
        print_rate(terminal, most);
    }
    terminal_style(terminal, TERMINAL_PLAIN);
    fputc('\n', terminal->out);
}

static void print_phase(const struct cache_answer * answer, const struct terminal * terminal, enum phase phase,
                        const char * title) {
    const uint64_t n = answer->requests[phase];
    fputc('\n', terminal->out);
    print_strong(terminal, title);
    if (n == 0) {
        fputs(": none in the second half of the trace\n", terminal->out);
        return;
    }
    fprintf(terminal->out, ": of %" PRIu64 " requests for an expert, what a cache would have had\n", n);
    char * head = memory_text("%22s%*s  %*s\n%5s%7s %9s", "", 5 * COLUMN, "each layer has a cache of its own",
                              3 * COLUMN, "layers share one", "slots", "share", "size");
    for (size_t j = 0; j < N_JUDGED; j++) {
        head = memory_append(head, memory_text("%s%*s", judged_columns[j].begins ? "  " : "", COLUMN,
                                               judged_columns[j].name));
    }
    head = memory_append(head, memory_text("\n"));
    print_faint(terminal, head);
    free(head);
    for (size_t i = 0; i < answer->n_sizes; i++) {
        print_row(answer, terminal, phase, i);
    }
    if (answer->units[phase].n >= RESAMPLE_LEAST) {
        print_widths(answer, terminal, phase);
    }
}

static char * units_text(const struct cache_answer * answer) {
    const struct cache_answer_units * units = &answer->units[answer->phase];
    return units->n < RESAMPLE_LEAST
        ? memory_text("How sure the rates are is not known: it takes %d blocks of %d tokens, and there %s %zu.",
                      RESAMPLE_LEAST, RESAMPLE_BLOCK, units->n == 1 ? "is" : "are", units->n)
        : units->by_lives
        ? memory_text("Intervals: 95%%, of the %zu lives of sequences drawn again and again.", units->n)
        : memory_text("Intervals: 95%%, of the %zu blocks of %d tokens drawn again and again.", units->n,
                      RESAMPLE_BLOCK);
}

static void print_legend(const struct cache_answer * answer, const struct terminal * terminal) {
    print_faint(terminal,
        "\n"
        "slots   experts that fit, in each layer; all columns have as many bytes\n"
        "static  the hottest experts of the first half of the trace, never changed\n"
        "prompt  those that are hottest in this very answer, known beforehand\n"
        "LRU     drops what was not used for longest; LFU: what was used least lately\n"
        "llama   what --moe-cache-mib of llama.cpp does, which is a shared LRU list\n"
        "best    knows the future: no cache that shares slots likewise can do better\n"
        "Judged on the second half, having seen the first.\n");
    if (answer->max_rows > 0) {
        print_faint_paragraph(terminal, memory_text("Ubatches of more than %d tokens take what is there and change "
                                                    "nothing, as in llama.cpp.", (int) answer->max_rows));
    }
    print_faint_paragraph(terminal, units_text(answer));
    if (isfinite(answer->floor)) {
        char size[QUANTITY_MAX];
        print_faint_paragraph(terminal, memory_text("One token's experts take %s of a list that layers share: a "
                                                    "smaller one has dropped them before the next token comes.",
                                                    quantity_text(answer->floor, size)));
    }
}

//
// the whole run
//

static const struct column whole_columns[] = {
    { "LRU",   CACHE_SHARED_LRU,     false, true  },
    { "llama", CACHE_LLAMA,          false, false },
    { "best",  CACHE_SHARED_OPTIMUM, false, false },
};

#define N_WHOLE (sizeof(whole_columns) / sizeof(whole_columns[0]))

static void print_whole_head(const struct terminal * terminal) {
    char * head = memory_text("%9s  %*s  %*s  %*s\n%9s", "", (int) N_WHOLE * COLUMN, "all", (int) N_WHOLE * COLUMN,
                              "generation", (int) N_WHOLE * COLUMN, "prompt", "size");
    for (size_t class = 0; class < CACHE_N_CLASSES; class++) {
        for (size_t j = 0; j < N_WHOLE; j++) {
            head = memory_append(head, memory_text("%s%*s", j == 0 ? "  " : "", COLUMN, whole_columns[j].name));
        }
    }
    head = memory_append(head, memory_text("\n"));
    print_faint(terminal, head);
    free(head);
}

static void print_whole_run(const struct cache_answer * answer, const struct terminal * terminal) {
    static const size_t classes[CACHE_N_CLASSES] = { CACHE_BOTH, PHASE_GENERATION, PHASE_PROMPT };
    fputc('\n', terminal->out);
    print_strong(terminal, "The whole run");
    fputs(", from an empty cache that layers share, as engines count it\n", terminal->out);
    print_whole_head(terminal);
    for (size_t i = 0; i < answer->n_sizes; i++) {
        char text[QUANTITY_MAX];
        if (answer->bytes_known) {
            fprintf(terminal->out, "%9s", size_text(&answer->sizes[i], text));
        } else {
            fprintf(terminal->out, "%8.1f%%", 100 * answer->sizes[i].share);
        }
        for (size_t k = 0; k < CACHE_N_CLASSES; k++) {
            for (size_t j = 0; j < N_WHOLE; j++) {
                fputs(j == 0 ? "  " : "", terminal->out);
                print_rate(terminal, value_of(&answer->sizes[i].whole[classes[k]], &whole_columns[j])->value);
            }
        }
        fputc('\n', terminal->out);
    }
}

static void print_layers(const struct cache_answer * answer, const struct terminal * terminal) {
    static const struct column columns[] = {
        { "static", CACHE_STATIC, false, false }, { "LRU",  CACHE_LRU,     false, false },
        { "LFU",    CACHE_LFU,    false, false }, { "best", CACHE_OPTIMUM, false, false },
    };
    const size_t size = answer->row;
    char       * title = memory_text("Each layer's own cache of %.1f slots", answer->sizes[size].slots);
    fputc('\n', terminal->out);
    print_strong(terminal, title);
    fprintf(terminal->out, ", %s\n", is_generation(answer->phase) ? "generation" : "prompt");
    free(title);
    char * head = memory_text("%5s", "layer");
    for (size_t j = 0; j < sizeof(columns) / sizeof(columns[0]); j++) {
        head = memory_append(head, memory_text("%*s", COLUMN, columns[j].name));
    }
    head = memory_append(head, memory_text("\n"));
    print_faint(terminal, head);
    free(head);
    for (size_t i = 0; i < answer->n_layers; i++) {
        fprintf(terminal->out, "%5d", (int) answer->layers[i].layer);
        for (size_t j = 0; j < sizeof(columns) / sizeof(columns[0]); j++) {
            print_rate(terminal, answer->layers[i].rates[size][answer->phase][columns[j].column]);
        }
        fputc('\n', terminal->out);
    }
}

static void print_concurrency(const struct cache_answer * answer, const struct terminal * terminal) {
    if (answer->n_concurrency < 2) {
        return;
    }
    fputs("\nWhat a ubatch touches that generates for several sequences at once\n", terminal->out);
    print_faint(terminal, "sequences  experts of a layer   share        size\n");
    for (size_t i = 0; i < answer->n_concurrency; i++) {
        const struct cache_answer_concurrency * row = &answer->concurrency[i];
        char                                    size[QUANTITY_MAX];
        fprintf(terminal->out, "%9zu  %18.1f  %5.1f%%  %10s\n", row->n_sequences, row->experts_per_layer,
                100 * row->share, isfinite(row->bytes) ? quantity_text(row->bytes, size) : "-");
    }
}

//
// what to do with device memory
//

// Of figures that can be.
static bool has_times(const struct cache_advice * advice) {
    return advice->time_is_known && advice->reason != CACHE_BECAUSE_IMPOSSIBLE;
}

// Frees `name` and `what`.
static void print_way(const struct cache_advice * advice, const struct terminal * terminal,
                      const struct cache_way * way, char * name, char * what) {
    char * rate   = cache_verdict_share(&way->rate);
    char * tokens = has_times(advice) && isfinite(way->rate.value) ? cache_verdict_tokens(&way->tokens_per_second)
                                                                       : memory_text("%s", "");
    if (has_times(advice)) {
        fprintf(terminal->out, "  %-23s  %-20s  %s\n", name, rate, tokens);
        fprintf(terminal->out, "    %s\n", what);
    } else {
        fprintf(terminal->out, "  %-23s  %s\n    %s\n", name, rate, what);
    }
    free(name);
    free(what);
    free(rate);
    free(tokens);
}

static char * llama_text(const struct cache_answer * answer) {
    const size_t slots = answer->sizes[answer->row].llama_slots;
    return slots == 0 ? memory_text("too little for llama.cpp's cache, which is off")
                      : memory_text("llama.cpp's cache: %zu slots, %.1f%% of the experts", slots,
                                    100.0 * (double) slots / (double) answer->all_experts);
}

static char * whole_text(const struct cache_answer * answer) {
    const size_t n = answer->sizes[answer->row].n_whole;
    return n == 0 ? memory_text("too little for a whole layer")
                  : memory_text("the last %zu layer%s with experts there, nothing is copied", n, n == 1 ? "" : "s");
}

static void print_kept_layers(const struct cache_answer * answer, const struct terminal * terminal) {
    const struct cache_advice * advice = &answer->advice;
    if (advice->n_kept == 0) {
        return;
    }
    char * command = cache_command(answer, CACHE_USE_KEPT);
    print_way(advice, terminal, &advice->ways[CACHE_USE_KEPT],
              memory_text(advice->kept_slots > 0 ? "-ot, and a cache" : "-ot"),
              advice->kept_slots > 0
                  ? memory_text("%zu layer%s that a cache serves worst, %zu slots for the others", advice->n_kept,
                                advice->n_kept == 1 ? "" : "s", advice->kept_slots)
                  : memory_text("%zu layer%s that a cache serves worst, nothing is copied", advice->n_kept,
                                advice->n_kept == 1 ? "" : "s"));
    fprintf(terminal->out, "    %s\n", command);
    free(command);
}

static void print_advice(const struct cache_answer * answer, const struct terminal * terminal) {
    const struct cache_advice * advice = &answer->advice;
    char                        size[QUANTITY_MAX];
    char * title = memory_text("%s of device memory for experts", size_text(&answer->sizes[answer->row], size));
    fputc('\n', terminal->out);
    print_strong(terminal, title);
    fprintf(terminal->out, ": what it serves of %s%s\n", cache_phase_name(answer),
            has_times(advice) ? ", tokens/s" : "");
    free(title);
    print_way(advice, terminal, &advice->ways[CACHE_USE_LLAMA],
              memory_text("--moe-cache-mib %" PRIu64, cache_command_mib(answer)), llama_text(answer));
    print_way(advice, terminal, &advice->ways[CACHE_USE_LAYERS],
              memory_text("--n-cpu-moe %d", (int) answer->sizes[answer->row].first_whole), whole_text(answer));
    print_kept_layers(answer, terminal);
    print_way(advice, terminal, &advice->equal, memory_text("equal slots"),
              memory_text("an LRU cache of %.1f slots in each layer; llama.cpp has none",
                          answer->sizes[answer->row].slots));
    print_way(advice, terminal, &advice->tuned, memory_text("slots by layer"),
              memory_text("the same, as many as help in each: %+.1f points", 100 * advice->tuned_gain));
}

// What each size would come to.
static void print_times(const struct cache_answer * answer, const struct terminal * terminal) {
    fputc('\n', terminal->out);
    print_strong(terminal, "Tokens a second");
    fprintf(terminal->out, ", %.1f now; a cache breaks even at a hit rate of %.0f%%\n", answer->advice.tg,
            100 * answer->advice.break_even);
    print_faint(terminal, "     size  --moe-cache-mib             --n-cpu-moe\n");
    for (size_t i = 0; i < answer->n_sizes; i++) {
        const struct cache_answer_size * size = &answer->sizes[i];
        char                             text[QUANTITY_MAX];
        char * llama  = isnan(size->llama.rate.value) ? memory_text("-")
                                                      : cache_verdict_tokens(&size->llama.tokens_per_second);
        char * layers = cache_verdict_tokens(&size->layers.tokens_per_second);
        fprintf(terminal->out, "%9s  %-26s  %-3d  %s\n", size_text(size, text), llama,
                (int) size->first_whole, layers);
        free(llama);
        free(layers);
    }
}

static void print_slots_by_layer(const struct cache_answer * answer, const struct terminal * terminal) {
    fputc('\n', terminal->out);
    print_strong(terminal, "Slots by layer");
    for (size_t i = 0; i < answer->n_layers; i++) {
        fprintf(terminal->out, "%s%d:%zu", i % 10 == 0 ? "\n  " : "  ", (int) answer->layers[i].layer,
                answer->advice.tuned_slots[i]);
    }
    fputc('\n', terminal->out);
}

void cache_text_print_verdict(const struct cache_answer * answer, const struct terminal * terminal) {
    char * command = cache_verdict_command(answer);
    terminal_paragraph_free(terminal, cache_verdict(answer));
    if (command != NULL) {
        fprintf(terminal->out, "\n  %s\n", command);
    }
    free(command);
}

void cache_text_print(const struct cache_answer * answer, const struct terminal * terminal, bool per_layer) {
    const struct cache_advice * advice = &answer->advice;
    if (advice->is_asked) {
        print_advice(answer, terminal);
    }
    if (has_times(advice)) {
        print_times(answer, terminal);
    }
    print_phase(answer, terminal, PHASE_GENERATION, "Generation");
    print_phase(answer, terminal, PHASE_PROMPT,     "Prompt");
    print_whole_run(answer, terminal);
    print_legend(answer, terminal);
    if (per_layer) {
        print_layers(answer, terminal);
    }
    print_concurrency(answer, terminal);
    if (advice->is_asked && per_layer) {
        print_slots_by_layer(answer, terminal);
    }
}
