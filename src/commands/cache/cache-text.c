// Prints the values of a cache answer as tables.

#include "commands/cache/cache-text.h"

#include "commands/cache/cache-override.h"
#include "commands/cache/cache-verdict.h"
#include "commands/model-text.h"
#include "tool/quantity.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#define COLUMN 10

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

static bool is_generation(enum phase phase) {
    return phase == PHASE_GENERATION;
}

static void print_columns(const struct cache_answer * answer, const struct terminal * terminal,
                          enum phase phase) {
    const bool oracle = is_generation(phase);
    char * line = memory_text("%5s %6s", "slots", "share");
    if (answer->bytes_known) {
        line = memory_append(line, memory_text(" %9s", "size"));
    }
    line = memory_append(line, memory_text("%*s%*s%*s%*s", COLUMN, "static", oracle ? COLUMN + 1 : 0,
                                           oracle ? "per prompt" : "", COLUMN, "LRU", COLUMN, "LFU"));
    line = memory_append(line, memory_text("%*s%*s\n", COLUMN + 1, answer->n_runs > 0 ? "llama.cpp" : "shared LRU",
                                           COLUMN, "optimum"));
    print_faint(terminal, line);
    free(line);
}

static void print_size(const struct cache_answer * answer, const struct terminal * terminal, enum phase phase,
                       size_t i) {
    const struct cache_answer_size  * size  = &answer->sizes[i];
    const struct cache_answer_rates * rates = &size->rates[phase];
    char                              text[QUANTITY_MAX];
    fprintf(terminal->out, "%5zu %5.1f%%", size->slots, 100 * size->share);
    if (answer->bytes_known) {
        fprintf(terminal->out, " %9s", quantity_text(size->bytes, text));
    }
    print_rate(terminal, rates->policies[CACHE_STATIC]);
    if (is_generation(phase)) {
        fputc(' ', terminal->out);
        print_rate(terminal, rates->policies[CACHE_PROMPT_ORACLE]);
    }
    print_rate(terminal, rates->policies[CACHE_LRU]);
    print_rate(terminal, rates->policies[CACHE_LFU]);
    fputc(' ', terminal->out);
    print_rate(terminal, answer->n_runs > 0 ? rates->llama_cpp : rates->pooled_lru);
    print_rate(terminal, rates->policies[CACHE_OPTIMUM]);
    fputc('\n', terminal->out);
}

static void print_phase(const struct cache_answer * answer, const struct terminal * terminal, enum phase phase,
                        const char * title) {
    const uint64_t n = answer->requests[phase];
    fputc('\n', terminal->out);
    terminal_style(terminal, TERMINAL_STRONG);
    fputs(title, terminal->out);
    terminal_style(terminal, TERMINAL_PLAIN);
    if (n == 0) {
        fputs(": none in the second half of the trace\n", terminal->out);
        return;
    }
    fprintf(terminal->out, ": of %" PRIu64 " requests for an expert, how many a cache would have had\n", n);
    print_columns(answer, terminal, phase);
    for (size_t i = 0; i < answer->n_sizes; i++) {
        print_size(answer, terminal, phase, i);
    }
}

static void print_legend(const struct cache_answer * answer, const struct terminal * terminal) {
    char * line = memory_text(
        "\n"
        "slots       experts that fit, in each layer\n"
        "static      the experts that were hottest in the first half of the trace, never changed\n"
        "per prompt  those that are hottest in this very answer, known beforehand\n"
        "LRU, LFU    a cache for each layer, that drops what was not used for longest, or least lately\n"
        "%s\n"
        "optimum     knows the future: no cache can do better\n"
        "All are judged on the second half, having seen the first.\n",
        answer->n_runs > 0 ? "llama.cpp   what --moe-cache-mib does: one LRU cache that all layers share"
                           : "shared LRU  one LRU cache that all layers share");
    print_faint(terminal, line);
    free(line);
    if (answer->max_rows > 0) {
        line = memory_text("Ubatches of more than %d tokens take what is there and change nothing, as in llama.cpp.\n",
                           (int) answer->max_rows);
        print_faint(terminal, line);
        free(line);
    }
}

static void print_layers(const struct cache_answer * answer, const struct terminal * terminal) {
    static const enum cache_policy policies[] = { CACHE_STATIC, CACHE_LRU, CACHE_LFU, CACHE_OPTIMUM };
    const size_t size = answer->quarter_share;
    fprintf(terminal->out, "\nEach layer's own cache of %zu slots, %s\n", answer->sizes[size].slots,
            is_generation(answer->phase) ? "generation" : "prompt");
    char * line = memory_text("%5s%*s%*s%*s%*s\n", "layer", COLUMN, "static", COLUMN, "LRU", COLUMN, "LFU",
                              COLUMN, "optimum");
    print_faint(terminal, line);
    free(line);
    for (size_t i = 0; i < answer->n_layers; i++) {
        fprintf(terminal->out, "%5d", (int) answer->layers[i].layer);
        for (size_t j = 0; j < sizeof(policies) / sizeof(policies[0]); j++) {
            print_rate(terminal, answer->layers[i].rates[size][answer->phase][policies[j]]);
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

// Frees `name` and `what`.
static void print_way(const struct cache_advice * advice, const struct terminal * terminal,
                      const struct cache_way * way, char * name, char * what) {
    fprintf(terminal->out, "  %-24s", name);
    if (isfinite(way->rate)) {
        fprintf(terminal->out, "%6.1f%%", 100 * way->rate);
    } else {
        fprintf(terminal->out, "%7s", "-");
    }
    if (advice->time_is_known && isfinite(way->rate)) {
        fprintf(terminal->out, "  %7.1f t/s", way->tokens_per_second);
    }
    fprintf(terminal->out, "  %s\n", what);
    free(name);
    free(what);
}

static char * llama_text(const struct cache_answer * answer) {
    const size_t slots = answer->advice.llama_slots;
    return slots == 0 ? memory_text("too small for llama.cpp's cache")
                      : memory_text("llama.cpp's cache: %zu slots, %.1f%% of the experts", slots,
                                    100.0 * (double) slots / (double) answer->all_experts);
}

static void print_kept_layers(const struct cache_advice * advice, const struct terminal * terminal) {
    if (advice->n_kept == 0) {
        return;
    }
    char * override = cache_override(advice);
    print_way(advice, terminal, &advice->kept, memory_text("-ot, and a cache"),
              memory_text("the layers that a cache serves worst stay there, and %zu slots in each of the others",
                          advice->kept_slots));
    fprintf(terminal->out, "    -ot '%s' -cmoe", override);
    if (advice->kept_slots > 0) {
        fprintf(terminal->out, " --moe-cache-mib %" PRIu64, advice->kept_mib);
    }
    fputc('\n', terminal->out);
    free(override);
}

static void print_advice(const struct cache_answer * answer, const struct terminal * terminal) {
    const struct cache_advice * advice = &answer->advice;
    char                        size[QUANTITY_MAX];
    fprintf(terminal->out, "\n%s of device memory for experts: requests of %s that it serves\n",
            quantity_text((double) advice->vram, size), cache_phase_name(answer));
    print_way(advice, terminal, &advice->llama, memory_text("--moe-cache-mib %" PRIu64, advice->llama_mib),
              llama_text(answer));
    print_way(advice, terminal, &advice->whole, memory_text("--n-cpu-moe %d", (int) advice->first_whole),
              memory_text("the last %zu layers with experts stay there, nothing is copied", advice->n_whole));
    print_way(advice, terminal, &advice->equal, memory_text("equal slots"),
              memory_text("an LRU cache of %zu slots in each layer", advice->equal_slots));
    print_way(advice, terminal, &advice->tuned, memory_text("slots by layer"),
              memory_text("as many slots in each layer as help there: %+.1f points", 100 * advice->tuned_gain));
    print_kept_layers(advice, terminal);
}

static void print_slots(const struct cache_answer * answer, const struct terminal * terminal) {
    fputs("\nSlots by layer:", terminal->out);
    for (size_t i = 0; i < answer->n_layers; i++) {
        fprintf(terminal->out, "%s%d:%zu", i % 10 == 0 ? "\n  " : "  ", (int) answer->layers[i].layer,
                answer->advice.tuned_slots[i]);
    }
    fputc('\n', terminal->out);
}

void cache_text_print(const struct cache_answer * answer, const struct terminal * terminal, bool per_layer) {
    char * verdict = cache_verdict(answer);
    print_phase(answer, terminal, PHASE_GENERATION, "generation");
    print_phase(answer, terminal, PHASE_PROMPT,     "prompt");
    print_legend(answer, terminal);
    if (per_layer) {
        print_layers(answer, terminal);
    }
    print_concurrency(answer, terminal);
    if (answer->has_advice) {
        print_advice(answer, terminal);
    }
    if (answer->has_advice && per_layer) {
        print_slots(answer, terminal);
    }
    fprintf(terminal->out, "\n%s\n", verdict);
    free(verdict);
}
