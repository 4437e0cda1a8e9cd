// Prints the values of a predict answer as tables.

#include "commands/predict/predict-text.h"

#include "commands/model-text.h"
#include "commands/predict/predict-verdict.h"

#include <math.h>
#include <stdlib.h>

static void print_tokens(const struct terminal * terminal, const char * label, bool phases_known,
                         const uint64_t * tokens) {
    const unsigned long long prompt     = tokens[PHASE_PROMPT];
    const unsigned long long generation = tokens[PHASE_GENERATION];
    char * text = memory_text("%llu tokens", prompt + generation);
    if (phases_known) {
        text = memory_append(text, memory_text(": %llu prompt, %llu generation", prompt, generation));
    }
    terminal_field_free(terminal, label, text);
}

// Behind a share, as wide as "±12.3": nothing where its interval is not known, and no blanks at a line's end.
static void print_half_interval(const struct terminal * terminal, const struct interval * interval, bool is_last) {
    char text[16] = "";
    if (!isnan(interval->low)) {
        snprintf(text, sizeof(text), "%.1f", 50.0 * (interval->high - interval->low));
        fprintf(terminal->out, " %s", terminal->utf8 ? "±" : "~");
    }
    if (is_last) {
        fputs(text, terminal->out);
    } else {
        fprintf(terminal->out, "%-*s", isnan(interval->low) ? 6 : 4, text);
    }
}

static void print_share(const struct terminal * terminal, double share, const struct interval * interval,
                        bool is_last) {
    if (isnan(share)) {
        fprintf(terminal->out, "%11s", "-");
    } else {
        fprintf(terminal->out, "%9.1f %%", 100.0 * share);
    }
    print_half_interval(terminal, interval, is_last);
}

// "1.5x: 12"
static void print_budget(const struct predict_answer * answer, FILE * out, size_t i_budget) {
    const size_t n    = answer->n_guesses[i_budget];
    char       * text = memory_text("%gx", recall_factors[i_budget]);
    if (n > 0) {
        text = memory_append(text, memory_text(": %zu", n));
    }
    fprintf(out, "%*s", i_budget == 0 ? 11 : 17, text);
    free(text);
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

static void print_shares(const struct terminal * terminal, enum predict_step step, const char * label,
                         const struct predict_shares * shares) {
    static const char * const names[] = { "learned", "popular", "repeated", "control" };
    for (int guess = 0; guess < PREDICT_N_GUESSES; guess++) {
        if (!predict_is_asked(step, (enum predict_guess) guess, 0)) {
            continue;
        }
        terminal_style(terminal, guess == PREDICT_LEARNED ? TERMINAL_PLAIN : TERMINAL_FAINT);
        fprintf(terminal->out, "%-12s%-12s", guess == 0 ? label : "", names[guess]);
        for (size_t i = 0; i < RECALL_N_BUDGETS; i++) {
            print_share(terminal, shares->shares[guess][i], &shares->intervals[guess][i], i + 1 == RECALL_N_BUDGETS);
        }
        terminal_style(terminal, TERMINAL_PLAIN);
        fputc('\n', terminal->out);
    }
}

static void print_target(const struct predict_answer * answer, const struct terminal * terminal, enum predict_step step,
                         const char * title, const struct predict_target * targets) {
    static const char * const labels[] = { "prompt", "generation" };
    if (targets[step].all.judged == 0) {
        return;
    }
    print_heading(answer, terminal, title);
    for (int phase = N_TOKEN_PHASES - 1; phase >= 0; phase--) {
        const struct predict_shares * shares = &targets[step].phases[phase];
        if (shares->judged > 0) {
            print_shares(terminal, step, answer->phases_known ? labels[phase] : "all tokens", shares);
        }
    }
}

static void print_layers(const struct predict_answer * answer, const struct terminal * terminal) {
    for (size_t i = 0; i < answer->n_layers; i++) {
        const struct predict_layer * layer = &answer->layers[i];
        char * next_layer = memory_text("layer %d, from layer %d", (int) layer->layer, (int) layer->before);
        char * next_token = memory_text("layer %d, next token",    (int) layer->layer);
        print_target(answer, terminal, PREDICT_NEXT_LAYER, next_layer, layer->targets);
        print_target(answer, terminal, PREDICT_NEXT_TOKEN, next_token, layer->targets);
        free(next_layer);
        free(next_token);
    }
}

static void print_legend(const struct predict_answer * answer, const struct terminal * terminal) {
    if (!answer->is_judged) {
        return;
    }
    fputc('\n', terminal->out);
    terminal_style(terminal, TERMINAL_FAINT);
    terminal_paragraph_free(terminal, memory_text(
        "Experts that were found among so many guesses, and half of the 95 %% interval, which takes %d lives of "
        "sequences or blocks of %d tokens. learned: on the first half of the trace. popular: the most used of the "
        "first half. repeated: those of the token before, again. control: the truth, which must be found.",
        RESAMPLE_LEAST, RESAMPLE_BLOCK));
    terminal_style(terminal, TERMINAL_PLAIN);
}

void predict_text_print(const struct predict_answer * answer, const struct terminal * terminal, bool per_layer) {
    terminal_paragraph_free(terminal, predict_verdict(answer));
    fputc('\n', terminal->out);
    terminal_field_free(terminal, "model", model_text(&answer->model));
    print_tokens(terminal, "learned", answer->phases_known, answer->learned);
    print_tokens(terminal, "judged",  answer->phases_known, answer->judged);
    print_target(answer, terminal, PREDICT_NEXT_LAYER, "next layer", answer->targets);
    print_target(answer, terminal, PREDICT_NEXT_TOKEN, "next token, same layer", answer->targets);
    if (per_layer) {
        print_layers(answer, terminal);
    }
    print_legend(answer, terminal);
}
