// rANS: tables of frequencies, and ids that are coded and decoded by them.

#include "trace/format/trace-code.h"

#include "trace/format/encoding.h"
#include "trace/format/trace-deflate.h"

#include <stdlib.h>
#include <string.h>

#define CODE_SUM      (1u << TRACE_CODE_BITS)
#define CODE_SIZE_MAX (TRACE_PACKED_MAX / 4)

static uint32_t begin_of(uint32_t expert) {
    return expert >> 16;
}

static uint32_t frequency_of(uint32_t expert) {
    return expert & 0xffff;
}

//
// tables of frequencies
//

void trace_code_free(struct trace_code * code) {
    for (size_t i = 0; i < code->n; i++) {
        for (size_t j = 0; j < code->tables[i].n_layers; j++) {
            free(code->tables[i].layers[j].experts);
        }
        free(code->tables[i].layers);
    }
    free(code->tables);
    *code = (struct trace_code) { 0 };
}

const struct trace_code_table * trace_code_find(const struct trace_code * code, uint64_t number, size_t * before) {
    *before = 0;
    for (size_t i = 0; i < code->n; i++) {
        if (code->tables[i].number == number) {
            return &code->tables[i];
        }
        *before += code->tables[i].n_layers;
    }
    return NULL;
}

struct trace_code_table * trace_code_add(struct trace_code * code, uint64_t number, size_t n_layers) {
    if (!trace_array_grow(&code->tables, &code->room, code->n + 1, sizeof(code->tables[0]))) {
        return NULL;
    }
    struct trace_code_table table = { number, n_layers, calloc(n_layers + 1, sizeof(table.layers[0])) };
    if (table.layers == NULL) {
        return NULL;
    }
    code->n_layers += n_layers;
    code->tables[code->n] = table;
    return &code->tables[code->n++];
}

// Frequencies in place of counts become what is looked up. Returns false where they are none.
static bool place(struct trace_code_layer * layer) {
    uint32_t begin = 0;
    for (int32_t i = 0; i < layer->n_expert; i++) {
        const uint32_t frequency = layer->experts[i];
        if (frequency > CODE_SUM - begin) {
            return false;
        }
        layer->experts[i] = begin << 16 | frequency;
        begin += frequency;
    }
    return begin == CODE_SUM || begin == 0;
}

static bool parse_layer(struct trace_code_layer * layer, struct trace_bytes * bytes) {
    layer->n_expert = (int32_t) trace_bytes_varint_max(bytes, TRACE_EXPERTS_MAX);
    layer->experts  = (size_t) layer->n_expert <= trace_bytes_left(bytes)
        ? calloc((size_t) layer->n_expert + 1, sizeof(layer->experts[0])) : NULL;
    if (layer->experts == NULL) {
        return false;
    }
    for (int32_t i = 0; i < layer->n_expert; i++) {
        layer->experts[i] = (uint32_t) trace_bytes_varint_max(bytes, CODE_SUM);
    }
    return !bytes->failed && place(layer);
}

static bool parse_table(struct trace_code * code, struct trace_bytes * bytes) {
    const uint64_t number   = trace_bytes_varint_max(bytes, TRACE_TABLES_MAX - 1);
    const uint64_t n_layers = trace_bytes_varint_max(bytes, TRACE_LAYERS_MAX);
    if (bytes->failed || n_layers > trace_bytes_left(bytes) ||
        (code->n > 0 && code->tables[code->n - 1].number >= number)) {
        return false;
    }
    struct trace_code_table * table = trace_code_add(code, number, (size_t) n_layers);
    bool                      ok    = table != NULL;
    for (size_t i = 0; ok && i < n_layers; i++) {
        ok = parse_layer(&table->layers[i], bytes);
    }
    return ok;
}

// The first one of a file counts.
bool trace_code_parse(struct trace_code * code, const void * payload, size_t size) {
    struct trace_bytes  stored = trace_bytes_of(payload, size);
    struct trace_buffer plain  = { 0 };
    bool ok = code->n == 0 && trace_inflate(&stored, &plain, CODE_SIZE_MAX);
    if (ok) {
        struct trace_bytes bytes    = trace_bytes_of(plain.data, plain.size);
        const uint64_t     n_tables = trace_bytes_varint_max(&bytes, TRACE_TABLES_MAX);
        for (uint64_t i = 0; ok && i < n_tables; i++) {
            ok = parse_table(code, &bytes);
        }
        if (!ok || bytes.failed) {
            trace_code_free(code);
            ok = false;
        }
    }
    trace_buffer_free(&plain);
    return ok;
}

void trace_code_write(const struct trace_code * code, struct trace_buffer * payload) {
    struct trace_buffer plain = { 0 };
    trace_buffer_varint(&plain, code->n);
    for (size_t i = 0; i < code->n; i++) {
        const struct trace_code_table * table = &code->tables[i];
        trace_buffer_varint(&plain, table->number);
        trace_buffer_varint(&plain, table->n_layers);
        for (size_t j = 0; j < table->n_layers; j++) {
            trace_buffer_varint(&plain, (uint64_t) table->layers[j].n_expert);
            for (int32_t k = 0; k < table->layers[j].n_expert; k++) {
                trace_buffer_varint(&plain, frequency_of(table->layers[j].experts[k]));
            }
        }
    }
    trace_deflate(&plain, payload);
    trace_buffer_free(&plain);
}

// What each is worth, at least 1 where there is any. Returns their sum.
static uint32_t scale(uint32_t * frequencies, const uint64_t * counts, int32_t n_expert, uint64_t total) {
    uint32_t sum = 0;
    for (int32_t i = 0; i < n_expert; i++) {
        const double exact = (double) counts[i] * CODE_SUM / (double) total;
        frequencies[i] = counts[i] == 0 ? 0 : exact < 1 ? 1 : (uint32_t) (exact + 0.5);
        sum += frequencies[i];
    }
    return sum;
}

// Where one more, or one less, changes the size of what is coded by least: by count * log((f ± 1) / f), about.
static int32_t cheapest(const uint32_t * frequencies, const uint64_t * counts, int32_t n_expert, bool less) {
    int32_t best  = -1;
    double  value = 0;
    for (int32_t i = 0; i < n_expert; i++) {
        if (frequencies[i] > (less ? 1u : 0u)) {
            const double here = (double) counts[i] / ((double) frequencies[i] + (less ? -0.5 : 0.5));
            if (best < 0 || (less ? here < value : here > value)) {
                best  = i;
                value = here;
            }
        }
    }
    return best;
}

bool trace_code_fit(struct trace_code_layer * layer, const uint64_t * counts, int32_t n_expert) {
    uint64_t total  = 0;
    uint32_t n_seen = 0;
    for (int32_t i = 0; i < n_expert; i++) {
        total  += counts[i];
        n_seen += counts[i] > 0;
    }
    layer->n_expert = n_expert;
    layer->experts  = calloc((size_t) n_expert + 1, sizeof(layer->experts[0]));
    if (layer->experts == NULL || n_seen > CODE_SUM) {
        return false;
    }
    if (total > 0) {
        uint32_t sum = scale(layer->experts, counts, n_expert, total);
        while (sum != CODE_SUM) {
            const bool     less  = sum > CODE_SUM;
            const uint32_t step  = less ? UINT32_MAX : 1; // -1 or 1
            const int32_t  which = cheapest(layer->experts, counts, n_expert, less);
            layer->experts[which] += step;
            sum                   += step;
        }
    }
    return place(layer);
}

//
// coding
//

void trace_decoding_begin(struct trace_decoding * decoding, const void * data, size_t size) {
    decoding->words = trace_bytes_of(data, size);
    decoding->n     = 0;
    for (int i = 0; i < TRACE_CODE_STATES; i++) {
        const uint8_t * state = trace_bytes_skip(&decoding->words, 4);
        decoding->states[i] = state != NULL ? trace_get_u32(state) : 0;
    }
}

// Each place of the sum tells the expert that it belongs to.
static void spread(uint16_t * expert_of, const struct trace_code_layer * layer) {
    for (int32_t i = 0; i < layer->n_expert; i++) {
        uint16_t     * at  = expert_of + begin_of(layer->experts[i]);
        const uint32_t end = frequency_of(layer->experts[i]);
        for (uint32_t j = 0; j < end; j++) {
            at[j] = (uint16_t) i;
        }
    }
}

static inline uint32_t read_word(struct trace_bytes * words) {
    if (words->size - words->at < 2) {
        words->failed = true;
        return 0;
    }
    const uint8_t * at = words->data + words->at;
    words->at += 2;
    return (uint32_t) (at[0] | at[1] << 8);
}

static inline uint16_t decode(struct trace_bytes * words, uint32_t * state, const uint16_t * expert_of,
                              const uint32_t * experts) {
    const uint32_t place  = *state & (CODE_SUM - 1);
    const uint16_t id     = expert_of[place];
    const uint32_t expert = experts[id];
    const uint32_t next   = frequency_of(expert) * (*state >> TRACE_CODE_BITS) + place - begin_of(expert);
    *state = next < TRACE_CODE_LOWEST ? next << 16 | read_word(words) : next;
    return id;
}

void trace_decoding_layer(struct trace_decoding * decoding, const struct trace_code_layer * layer, uint16_t * ids,
                          size_t n) {
    if (n == 0) {
        return;
    }
    const uint32_t last = layer->n_expert == 0 ? 0 : layer->experts[layer->n_expert - 1];
    if (begin_of(last) + frequency_of(last) == 0) {
        decoding->words.failed = true;
        memset(ids, 0, n * sizeof(ids[0]));
        return;
    }
    spread(decoding->expert_of, layer);
    struct trace_bytes words = decoding->words;
    size_t             i     = 0;
    for (; i < n && (decoding->n + i) % TRACE_CODE_STATES != 0; i++) {
        ids[i] = decode(&words, &decoding->states[(decoding->n + i) % TRACE_CODE_STATES], decoding->expert_of,
            layer->experts);
    }
    uint32_t states[TRACE_CODE_STATES];
    memcpy(states, decoding->states, sizeof(states));
    for (; i + TRACE_CODE_STATES <= n; i += TRACE_CODE_STATES) {
        for (size_t j = 0; j < TRACE_CODE_STATES; j++) {
            ids[i + j] = decode(&words, &states[j], decoding->expert_of, layer->experts);
        }
    }
    for (size_t j = 0; i < n; i++, j++) {
        ids[i] = decode(&words, &states[j], decoding->expert_of, layer->experts);
    }
    memcpy(decoding->states, states, sizeof(states));
    decoding->words = words;
    decoding->n    += n;
}

bool trace_decoding_end(struct trace_decoding * decoding) {
    bool ok = !decoding->words.failed && trace_bytes_left(&decoding->words) == 0;
    for (int i = 0; i < TRACE_CODE_STATES; i++) {
        ok = ok && decoding->states[i] == TRACE_CODE_LOWEST;
    }
    return ok;
}

void trace_encoding_begin(struct trace_encoding * encoding, uint8_t * room, size_t size, uint64_t n) {
    encoding->begin = room;
    encoding->at    = room + size;
    encoding->n     = n;
    for (int i = 0; i < TRACE_CODE_STATES; i++) {
        encoding->states[i] = TRACE_CODE_LOWEST;
    }
}

// An expert that has no frequency cannot be coded.
bool trace_encoding_layer(struct trace_encoding * encoding, const struct trace_code_layer * layer,
                          const uint16_t * ids, size_t n) {
    for (size_t i = n; i > 0; i--) {
        uint32_t     * state     = &encoding->states[--encoding->n % TRACE_CODE_STATES];
        const uint32_t expert    = layer->experts[ids[i - 1]];
        const uint32_t frequency = frequency_of(expert);
        if (frequency == 0) {
            return false;
        }
        if (*state >> (32 - TRACE_CODE_BITS) >= frequency) {
            encoding->at -= 2;
            trace_put_u16(encoding->at, (uint16_t) *state);
            *state >>= 16;
        }
        *state = (*state / frequency << TRACE_CODE_BITS) + *state % frequency + begin_of(expert);
    }
    return true;
}

void trace_encoding_end(struct trace_encoding * encoding) {
    for (int i = TRACE_CODE_STATES; i > 0; i--) {
        encoding->at -= 4;
        trace_put_u32(encoding->at, encoding->states[i - 1]);
    }
}
