#include "answers/cache-gathered.h"

#include "commands/cache/cache-plan.h"
#include "tool/quantity.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COLUMN 10

void cache_answer_print_model(const struct cache_answer * answer, const struct terminal * terminal) {
    const struct trace_info   * info  = answer->info;
    const struct trace_shape  * shape = answer->shape;
    const struct trace_extent * tokens = &answer->extent;
    char                        size[QUANTITY_MAX];
    terminal_field_free(terminal, "model", memory_text("%s%s%s%s", info->model_name == NULL ? "name unknown" : info->model_name,
                                                        info->architecture == NULL ? "" : " (", info->architecture == NULL ? "" : info->architecture,
                                                        info->architecture == NULL ? "" : ")"));
    terminal_field_free(terminal, "experts", memory_text("%zu layers of %d%s, %d for each token%s%s", shape->n_layers, (int) shape->n_expert,
                                                          shape->same_experts ? "" : " at most", (int) shape->n_used,
                                                          shape->bytes_known ? "; all together " : "",
                                                          shape->bytes_known ? quantity_text((double) shape->all_bytes, size) : ""));
    terminal_field_free(terminal, "tokens", memory_text("%" PRIu64 " prompt, %" PRIu64 " generation, %" PRIu64 " warm-up",
                                                         tokens->n_prompt, tokens->n_generation, tokens->n_warmup));
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

static bool is_generation(enum cache_class class) {
    return class == CACHE_GENERATION;
}

static void print_columns(const struct cache_answer * answer, const struct terminal * terminal, enum cache_class class) {
    char * line = memory_text("%5s %6s", "slots", "share");
    if (answer->shape->bytes_known) {
        line = memory_append(line, memory_text(" %9s", "size"));
    }
    line = memory_append(line, memory_text("%*s%*s%*s%*s", COLUMN, "static", is_generation(class) ? COLUMN + 1 : 0, is_generation(class) ? "per prompt" : "", COLUMN, "LRU", COLUMN, "LFU"));
    line = memory_append(line, memory_text("%*s%*s\n", COLUMN + 1, answer->n_llama > 0 ? "llama.cpp" : "shared LRU", COLUMN, "optimum"));
    print_faint(terminal, line);
    free(line);
}

static void print_size(const struct cache_answer * answer, const struct terminal * terminal, enum cache_class class, size_t i) {
    const size_t slots = answer->sizes[i];
    const double share = cache_answer_share(answer, slots);
    char         size[QUANTITY_MAX];
    fprintf(terminal->out, "%5zu %5.1f%%", slots, 100 * share);
    if (answer->shape->bytes_known) {
        fprintf(terminal->out, " %9s", quantity_text(share * (double) answer->shape->all_bytes, size));
    }
    print_rate(terminal, cache_answer_rate(answer, CACHE_STATIC, slots, class));
    if (is_generation(class)) {
        fputc(' ', terminal->out);
        print_rate(terminal, cache_answer_rate(answer, CACHE_PROMPT_ORACLE, slots, class));
    }
    print_rate(terminal, cache_answer_rate(answer, CACHE_LRU, slots, class));
    print_rate(terminal, cache_answer_rate(answer, CACHE_LFU, slots, class));
    fputc(' ', terminal->out);
    print_rate(terminal, i < answer->n_llama ? cache_rate(answer->llama[i].hits[class][CACHE_SECOND_HALF])
                                             : cache_answer_pooled(answer, CACHE_LRU, slots, class));
    print_rate(terminal, cache_answer_rate(answer, CACHE_OPTIMUM, slots, class));
    fputc('\n', terminal->out);
}

static void print_class(const struct cache_answer * answer, const struct terminal * terminal, enum cache_class class, const char * title) {
    const uint64_t n = cache_answer_requests(answer, class);
    fputc('\n', terminal->out);
    terminal_style(terminal, TERMINAL_STRONG);
    fputs(title, terminal->out);
    terminal_style(terminal, TERMINAL_PLAIN);
    if (n == 0) {
        fputs(": none in the second half of the trace\n", terminal->out);
        return;
    }
    fprintf(terminal->out, ": of %" PRIu64 " requests for an expert, how many a cache would have had\n", n);
    print_columns(answer, terminal, class);
    for (size_t i = 0; i < answer->n_sizes; i++) {
        print_size(answer, terminal, class, i);
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
        answer->n_llama > 0 ? "llama.cpp   what --moe-cache-mib does: one LRU cache that all layers share"
                            : "shared LRU  one LRU cache that all layers share");
    print_faint(terminal, line);
    if (answer->questions.max_rows > 0) {
        free(line);
        line = memory_text("Ubatches of more than %d tokens take what is there and change nothing, as in llama.cpp.\n", (int) answer->questions.max_rows);
        print_faint(terminal, line);
    }
    free(line);
}

//
// layers
//

// The size that is nearest to a quarter of the experts.
static size_t quarter(const struct cache_answer * answer) {
    size_t nearest = 0;
    for (size_t i = 1; i < answer->n_sizes; i++) {
        if (fabs(cache_answer_share(answer, answer->sizes[i]) - 0.25) < fabs(cache_answer_share(answer, answer->sizes[nearest]) - 0.25)) {
            nearest = i;
        }
    }
    return answer->sizes[nearest];
}

static void print_layers(const struct cache_answer * answer, const struct terminal * terminal) {
    static const enum cache_policy policies[] = { CACHE_STATIC, CACHE_LRU, CACHE_LFU, CACHE_OPTIMUM };
    const enum cache_class class = cache_answer_requests(answer, CACHE_GENERATION) > 0 ? CACHE_GENERATION : CACHE_PROMPT;
    const size_t           slots = quarter(answer);
    fprintf(terminal->out, "\nEach layer's own cache of %zu slots, %s\n", slots, is_generation(class) ? "generation" : "prompt");
    char * line = memory_text("%5s%*s%*s%*s%*s\n", "layer", COLUMN, "static", COLUMN, "LRU", COLUMN, "LFU", COLUMN, "optimum");
    print_faint(terminal, line);
    free(line);
    for (size_t i = 0; i < answer->shape->n_layers; i++) {
        fprintf(terminal->out, "%5d", (int) answer->shape->layers[i].layer);
        for (size_t j = 0; j < sizeof(policies) / sizeof(policies[0]); j++) {
            print_rate(terminal, cache_rate(cache_study_layer(answer->study, policies[j], i, slots, class, CACHE_SECOND_HALF)));
        }
        fputc('\n', terminal->out);
    }
}

//
// several sequences at once
//

static void print_concurrency(const struct cache_answer * answer, const struct terminal * terminal) {
    struct cache_concurrency row;
    if (!cache_plan_concurrency(answer, 2, &row)) {
        return;
    }
    fputs("\nWhat a ubatch touches that generates for several sequences at once\n", terminal->out);
    print_faint(terminal, "sequences  experts of a layer   share        size\n");
    for (size_t n = 1; n <= CONCURRENCY_MOST && cache_plan_concurrency(answer, n, &row); n *= 2) {
        char size[QUANTITY_MAX];
        fprintf(terminal->out, "%9zu  %18.1f  %5.1f%%  %10s\n", n, row.experts_per_layer, 100 * row.share, isfinite(row.bytes) ? quantity_text(row.bytes, size) : "-");
    }
}

void cache_answer_print(const struct cache_answer * answer, const struct terminal * terminal) {
    print_class(answer, terminal, CACHE_GENERATION, "generation");
    print_class(answer, terminal, CACHE_PROMPT,     "prompt");
    print_legend(answer, terminal);
    if (answer->questions.per_layer) {
        print_layers(answer, terminal);
    }
    print_concurrency(answer, terminal);
    cache_plan_print(answer, terminal);
    fprintf(terminal->out, "\n%s\n", answer->verdict);
}
