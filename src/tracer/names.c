// Builds the lines from a layer's selected experts and its tensors' names.

#include "tracer/names.h"

#include "base/clean.h"
#include "base/log.h"

#include <stdio.h>
#include <string.h>

#define DIGITS_MAX  10
#define LINE_NAME_ROOM   128 // ggml's have 64 bytes
#define LINE_LAYER  LOG_PREFIX "Layer "
#define LINE_EXPERT ", Expert "

// A piece of text without a zero byte.
struct piece {
    const char * data;
    size_t       length;
};

// What the lines of one tensor have between their numbers.
struct line {
    struct piece stem; // "blk.5.ffn_gate_exps"
    struct piece end;  // ".weight"
};

static char * put_bytes(char * at, const char * data, size_t length) {
    return (char *) memcpy(at, data, length) + length;
}

static char * put_literal(char * at, const char * literal) {
    return put_bytes(at, literal, strlen(literal));
}

static char * put_piece(char * at, const struct piece * piece) {
    return put_bytes(at, piece->data, piece->length);
}

static char * put_number(char * at, int32_t number) {
    char digits[DIGITS_MAX];
    int  first = DIGITS_MAX;
    do {
        digits[--first] = (char) ('0' + number % 10);
        number /= 10;
    } while (number > 0);
    return put_bytes(at, digits + first, (size_t) (DIGITS_MAX - first));
}

// The name comes from the model's file.
static struct line line_of(const char * weights, char clean[LINE_NAME_ROOM]) {
    snprintf(clean, LINE_NAME_ROOM, "%s", weights);
    clean_in_place(clean);
    const char * dot  = strrchr(clean, '.');
    const char * end  = dot ? dot : clean + strlen(clean);
    return (struct line) { { clean, (size_t) (end - clean) }, { end, strlen(end) } };
}

static char * put_lines(char * at, const struct piece * beginning, const struct line * lines, int32_t n_lines,
                        int32_t expert) {
    char         digits[DIGITS_MAX];
    const struct piece number = { digits, (size_t) (put_number(digits, expert) - digits) };
    for (int32_t i = 0; i < n_lines; i++) {
        at = put_piece  (at, beginning);
        at = put_piece  (at, &number);
        at = put_literal(at, ": ");
        at = put_piece  (at, &lines[i].stem);
        at = put_literal(at, ".");
        at = put_piece  (at, &number);
        at = put_piece  (at, &lines[i].end);
        at = put_literal(at, "\n");
    }
    return at;
}

void names_add(struct text * text, const struct routing_layer * layer) {
    char   data[sizeof(LINE_LAYER LINE_EXPERT) + DIGITS_MAX];
    char * end = put_literal(put_number(put_literal(data, LINE_LAYER), layer->layer), LINE_EXPERT);
    const struct piece beginning = { data, (size_t) (end - data) };
    const size_t       n         = (size_t) layer->n_tokens * (size_t) layer->n_used;

    char        clean[ROUTING_TENSORS_MAX][LINE_NAME_ROOM];
    struct line lines[ROUTING_TENSORS_MAX];
    size_t      longest = 0; // all lines of an activation
    for (int32_t i = 0; i < layer->n_tensors; i++) {
        lines[i] = line_of(layer->tensor_names[i], clean[i]);
        longest += beginning.length + lines[i].stem.length + lines[i].end.length + 2 * DIGITS_MAX + strlen(": .\n");
    }
    char * const first = text_room(text, n * longest);
    if (first == NULL) {
        return;
    }
    char * at = first;
    for (size_t i = 0; i < n; i++) {
        at = put_lines(at, &beginning, lines, layer->n_tensors, layer->experts[i]);
    }
    text_take(text, (size_t) (at - first));
}
