// Prints the values of a comparison, as wide as the terminal allows.

#include "commands/compare/compare-text.h"

#include "commands/compare/compare-verdict.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FEW_LAYERS  8 // all of them are shown
#define MOST_LAYERS 5 // of many: those that differ most
#define FEW_EXPERTS 5 // of those that differ most
#define BAR_MAX     40

struct page {
    const struct compare_answer * comparison;
    const struct terminal       * terminal;
    bool                          per_layer;
};

static char letter(size_t i_file) {
    return (char) ('A' + i_file);
}

static void print_styled(const struct page * page, enum terminal_style style, const char * text) {
    terminal_style(page->terminal, style);
    fputs(text, page->terminal->out);
    terminal_style(page->terminal, TERMINAL_PLAIN);
    fputc('\n', page->terminal->out);
}

// A number in as many columns as its head has, "-": not known.
static void print_number(const struct page * page, int width, const char * format, double value) {
    char text[32] = "-";
    if (!isnan(value)) {
        snprintf(text, sizeof(text), format, value);
    }
    fprintf(page->terminal->out, "  %*s", width, text);
}

//
// the files
//

static void print_file(const struct page * page, size_t i) {
    const struct routing_counts * counts = page->comparison->files[i];
    const char                  * model  = counts->model.name == NULL ? "name unknown" : counts->model.name;
    char                        * label  = memory_text("%c", letter(i));
    terminal_field(page->terminal, label, routing_counts_name(counts));
    if (counts->tokens.all < 0) {
        terminal_field(page->terminal, "", model);
    } else if (counts->tokens.prompt < 0 || counts->tokens.generation < 0) {
        terminal_field_free(page->terminal, "", memory_text("%s, %lld tokens", model, (long long) counts->tokens.all));
    } else {
        terminal_field_free(page->terminal, "",
                            memory_text("%s, %lld prompt and %lld generated tokens", model,
                                        (long long) counts->tokens.prompt, (long long) counts->tokens.generation));
    }
    free(label);
}

//
// a pair
//

static void print_layer(const struct page * page, const char * label, const struct compare_layer * layer) {
    const size_t text = 5 + 12 + 9 + 10 + 10 + 2;
    const size_t room = page->terminal->width > text ? page->terminal->width - text : 0;
    fprintf(page->terminal->out, "%5s", label);
    print_number(page, 10, "%.4f", layer->divergence);
    print_number(page, 7,  "%.0f%%", 100.0 * layer->overlap);
    if (room > 0) {
        print_number(page, 8, "%.4f", layer->noise_a);
        print_number(page, 8, "%.4f", layer->noise_b);
    }
    if (room > 0 && layer->divergence > 0.0) {
        fputs("  ", page->terminal->out);
        terminal_bar(page->terminal, layer->divergence, room > BAR_MAX ? BAR_MAX : room);
    }
    fputc('\n', page->terminal->out);
}

static void print_layers_head(const struct page * page, const struct compare_pair * pair) {
    char text[64];
    const bool narrow = page->terminal->width <= 48;
    snprintf(text, sizeof(text),
             narrow ? "layer  divergence  overlap" : "layer  divergence  overlap  halves %c  halves %c",
             letter(pair->a), letter(pair->b));
    print_styled(page, TERMINAL_FAINT, text);
}

static void print_layers(const struct page * page, const struct compare_pair * pair) {
    const struct routing_counts * first = page->comparison->files[0];
    const size_t                  n     = first->n_layers;
    const bool                    all   = page->per_layer || n <= FEW_LAYERS;
    print_layers_head(page, pair);
    for (size_t i = 0; i < (all ? n : MOST_LAYERS); i++) {
        char         label[16];
        const size_t layer = all ? i : pair->by_divergence[i];
        snprintf(label, sizeof(label), "%d", (int) first->layers[layer].layer);
        print_layer(page, label, &pair->layers[layer]);
    }
    if (!all) {
        fprintf(page->terminal->out, "%5s  %zu more that differ less, --per-layer shows them\n", "",
                n - MOST_LAYERS);
    }
    print_layer(page, "mean", &pair->mean);
}

static void print_hot_sets(const struct page * page, const struct compare_pair * pair) {
    const char a = letter(pair->a);
    const char b = letter(pair->b);
    char       text[64];
    snprintf(text, sizeof(text), "hottest  %c on %c  %c on %c  %c on %c  %c on %c", a, b, b, b, b, a, a, a);
    fputc('\n', page->terminal->out);
    print_styled(page, TERMINAL_FAINT, text);
    for (size_t i = 0; i < COMPARE_N_HOT; i++) {
        fprintf(page->terminal->out, "%6.0f%%", 100.0 * pair->hot[i].share);
        print_number(page, 6, "%.1f%%", 100.0 * pair->hot[i].a_on_b);
        print_number(page, 6, "%.1f%%", 100.0 * pair->hot[i].b_on_b);
        print_number(page, 6, "%.1f%%", 100.0 * pair->hot[i].b_on_a);
        print_number(page, 6, "%.1f%%", 100.0 * pair->hot[i].a_on_a);
        fputc('\n', page->terminal->out);
    }
}

static void print_experts(const struct page * page, const struct compare_pair * pair) {
    const size_t n = page->per_layer || pair->n_experts < FEW_EXPERTS ? pair->n_experts : FEW_EXPERTS;
    if (n == 0) {
        return;
    }
    char text[64];
    snprintf(text, sizeof(text), "layer  expert  share in %c  share in %c", letter(pair->a), letter(pair->b));
    fputc('\n', page->terminal->out);
    print_styled(page, TERMINAL_FAINT, text);
    for (size_t i = 0; i < n; i++) {
        const struct compare_expert * expert = &pair->experts[i];
        fprintf(page->terminal->out, "%5d  %6zu", (int) expert->layer, expert->expert);
        print_number(page, 10, "%.2f%%", 100.0 * expert->a);
        print_number(page, 10, "%.2f%%", 100.0 * expert->b);
        fputc('\n', page->terminal->out);
    }
}

static void print_pair(const struct page * page, const struct compare_pair * pair) {
    char title[64];
    snprintf(title, sizeof(title), "%c against %c", letter(pair->b), letter(pair->a));
    fputc('\n', page->terminal->out);
    print_styled(page, TERMINAL_STRONG, title);
    print_layers  (page, pair);
    print_hot_sets(page, pair);
    print_experts (page, pair);
}

//
// all of them
//

static void print_matrix_columns(const struct page * page, size_t from, size_t to) {
    const size_t n = page->comparison->n_files;
    fputs(" ", page->terminal->out);
    for (size_t i = from; i < to; i++) {
        fprintf(page->terminal->out, "  %6c", letter(i));
    }
    fputc('\n', page->terminal->out);
    for (size_t i = 0; i < n; i++) {
        fprintf(page->terminal->out, "%c", letter(i));
        for (size_t k = from; k < to; k++) {
            print_number(page, 6, "%.4f", page->comparison->matrix[i * n + k]);
        }
        fputc('\n', page->terminal->out);
    }
}

static void print_matrix(const struct page * page) {
    const size_t n    = page->comparison->n_files;
    const size_t room = (page->terminal->width - 1) / 8; // columns side by side, the others below
    fputc('\n', page->terminal->out);
    print_styled(page, TERMINAL_STRONG, "Divergence of each from each");
    for (size_t from = 0; from < n; from += room) {
        print_matrix_columns(page, from, from + room < n ? from + room : n);
    }
}

static void print_legend(const struct page * page) {
    static const char * const lines[] = {
        "divergence: Jensen-Shannon, in bits: 0 alike, 1 no expert in common",
        "overlap: of the hottest 10% of the experts",
        "halves: the divergence of a trace's first half from its second",
        ("A on B: what the hottest experts of A's first half take of B's second half. Statistics have no halves: they "
         "are learned from as a whole, and judged by that."),
    };
    fputc('\n', page->terminal->out);
    terminal_style(page->terminal, TERMINAL_FAINT);
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        terminal_paragraph(page->terminal, lines[i]);
    }
    terminal_style(page->terminal, TERMINAL_PLAIN);
}

void compare_text_print(const struct compare_answer * comparison, const struct terminal * terminal, bool per_layer) {
    const struct page page = { comparison, terminal, per_layer };
    for (size_t i = 0; i < comparison->n_pairs; i++) {
        terminal_paragraph_free(terminal, compare_pair_verdict(comparison, i));
    }
    fputc('\n', terminal->out);
    for (size_t i = 0; i < comparison->n_files; i++) {
        print_file(&page, i);
    }
    for (size_t i = 0; i < comparison->n_pairs; i++) {
        print_pair(&page, &comparison->pairs[i]);
    }
    if (comparison->n_files > 2) {
        print_matrix(&page);
    }
    print_legend(&page);
}
