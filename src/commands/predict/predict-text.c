#include "answers/predict-answer.h"

#include <math.h>
#include <stdlib.h>

static void print_model(const struct terminal * terminal, const struct trace_info * info) {
    char * text = memory_text("%s", info->model_name == NULL ? "name unknown" : info->model_name);
    if (info->architecture != NULL) {
        text = memory_append(text, memory_text(" (%s)", info->architecture));
    }
    terminal_field_free(terminal, "model", text);
}

static void print_tokens(const struct terminal * terminal, const char * label, bool phases_known, const uint64_t * tokens) {
    const unsigned long long prompt     = tokens[PREDICT_PROMPT];
    const unsigned long long generation = tokens[PREDICT_GENERATION];
    char * text = memory_text("%llu tokens", prompt + generation);
    if (phases_known) {
        text = memory_append(text, memory_text(": %llu prompt, %llu generation", prompt, generation));
    }
    terminal_field_free(terminal, label, text);
}

// "1.5x: 12"
static void print_budget(const struct predict_answer * answer, FILE * out, size_t i_budget) {
    const size_t n    = predict_answer_budget(answer, i_budget);
    char       * text = n == 0 ? memory_text("%gx", recall_factors[i_budget]) : memory_text("%gx: %zu", recall_factors[i_budget], n);
    fprintf(out, "%11s", text);
    free(text);
}

static void print_share(FILE * out, double share) {
    if (isnan(share)) {
        fprintf(out, "%11s", "-");
    } else {
        fprintf(out, "%9.1f %%", 100.0 * share);
    }
}

static void print_heading(const struct predict_answer * answer, const struct terminal * terminal, const char * title) {
    terminal_style(terminal, TERMINAL_STRONG);
    fprintf(terminal->out, "\n%-24s", title);
    for (size_t i = 0; i < RECALL_N_BUDGETS; i++) {
        print_budget(answer, terminal->out, i);
    }
    terminal_style(terminal, TERMINAL_PLAIN);
    fputc('\n', terminal->out);
}

static void print_recall(const struct terminal * terminal, enum predict_step step, const char * label, const struct predict_recall * recall) {
    static const char * const names[] = { "learned", "popular", "repeated", "control" };
    for (int guess = 0; guess < PREDICT_N_GUESSES; guess++) {
        if (!predict_is_asked(step, (enum predict_guess) guess, 0)) {
            continue;
        }
        terminal_style(terminal, guess == PREDICT_LEARNED ? TERMINAL_PLAIN : TERMINAL_FAINT);
        fprintf(terminal->out, "%-12s%-12s", guess == 0 ? label : "", names[guess]);
        for (size_t i = 0; i < RECALL_N_BUDGETS; i++) {
            const bool is_asked = predict_is_asked(step, (enum predict_guess) guess, i);
            print_share(terminal->out, is_asked ? recall_share(&recall->guesses[guess], i) : (double) NAN);
        }
        terminal_style(terminal, TERMINAL_PLAIN);
        fputc('\n', terminal->out);
    }
}

static void print_phases(const struct predict_answer * answer, const struct terminal * terminal, enum predict_step step, int layer) {
    static const char * const labels[] = { "prompt", "generation" };
    for (int phase = PREDICT_N_PHASES - 1; phase >= 0; phase--) {
        const struct predict_recall recall = predict_answer_recall(answer, step, layer, phase);
        if (predict_is_judged(&recall)) {
            print_recall(terminal, step, answer->info->phases_known ? labels[phase] : "all tokens", &recall);
        }
    }
}

static void print_step(const struct predict_answer * answer, const struct terminal * terminal, enum predict_step step, const char * title,
                       int layer) {
    const struct predict_recall recall = predict_answer_recall(answer, step, layer, -1);
    if (predict_is_judged(&recall)) {
        print_heading(answer, terminal, title);
        print_phases(answer, terminal, step, layer);
    }
}

static void print_layers(const struct predict_answer * answer, const struct terminal * terminal) {
    for (size_t i = 0; i < answer->shape->n_layers; i++) {
        const struct shape_layer * layer = &answer->shape->layers[i];
        char * next_layer = memory_text("layer %d, from layer %d", (int) layer->layer, (int) (i == 0 ? layer : layer - 1)->layer);
        char * next_token = memory_text("layer %d, next token",    (int) layer->layer);
        print_step(answer, terminal, PREDICT_NEXT_LAYER, next_layer, (int) i);
        print_step(answer, terminal, PREDICT_NEXT_TOKEN, next_token, (int) i);
        free(next_layer);
        free(next_token);
    }
}

void predict_answer_print(const struct predict_answer * answer, const struct terminal * terminal, bool per_layer) {
    print_model (terminal, answer->info);
    print_tokens(terminal, "learned", answer->info->phases_known, answer->learned);
    print_tokens(terminal, "judged",  answer->info->phases_known, answer->judged);
    print_step(answer, terminal, PREDICT_NEXT_LAYER, "next layer", -1);
    print_step(answer, terminal, PREDICT_NEXT_TOKEN, "next token, same layer", -1);
    if (per_layer) {
        print_layers(answer, terminal);
    }
    fprintf(terminal->out, "\n%s\n", answer->verdict);
}
