// Fills the tables below the map of layers.

#include "commands/top/top-panes.h"

#include "commands/top/top-pen.h"
#include "tool/quantity.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define GAP 2 // columns between tables

static struct top_pen pen_of(struct grid * grid, const struct top_area * area, size_t row) {
    return top_pen_at(grid, area->row + row, area->column, area->end);
}

static void put_title(struct grid * grid, const struct top_area * area, const char * title) {
    grid_put(grid, area->row, area->column, area->end, GRID_STRONG, title);
}

// Below a table's head where it has no rows.
static void put_nothing(struct grid * grid, const struct top_area * area, const char * why) {
    if (area->n_rows > TOP_PANE_HEAD) {
        grid_put(grid, area->row + TOP_PANE_HEAD, area->column, area->end, GRID_FAINT, why);
    }
}

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

static size_t rows_below_head(const struct top_area * area) {
    return area->n_rows > TOP_PANE_HEAD ? area->n_rows - TOP_PANE_HEAD : 0;
}

//
// sequences
//

enum { SEQUENCE, POSITION, PHASE, RATE, USED, LIFE, N_OF_SEQUENCES };

static const int sequence_widths[N_OF_SEQUENCES] = {
    [SEQUENCE] = 5, [POSITION] = 7, [PHASE] = -6, [RATE] = 6, [USED] = 6, [LIFE] = 5,
};

static size_t sequences_rows(const struct watch_frame * frame) {
    return TOP_PANE_HEAD + (frame->n_sequences > 0 ? frame->n_sequences : 1);
}

static bool has_several_contexts(const struct watch_frame * frame) {
    for (size_t i = 1; i < frame->n_sequences; i++) {
        if (frame->sequences[i].context != frame->sequences[0].context) {
            return true;
        }
    }
    return false;
}

// Whether fewer than `room` sequences had a token since this one had.
static bool is_among_latest(const struct watch_frame * frame, size_t i_sequence, size_t room) {
    size_t n = 0;
    for (size_t i = 0; i < frame->n_sequences; i++) {
        const double age = frame->sequences[i].age;
        const double its = frame->sequences[i_sequence].age;
        n += age < its || (age == its && i < i_sequence);
    }
    return n < room;
}

static void put_sequence(struct top_pen * pen, const struct watch_frame * frame, const struct watch_sequence * its) {
    char sequence[TOP_NUMBER_MAX], position[TOP_NUMBER_MAX] = "-", rate[TOP_NUMBER_MAX], used[TOP_NUMBER_MAX];
    char life[TOP_NUMBER_MAX];
    if (has_several_contexts(frame)) {
        snprintf(sequence, sizeof(sequence), "%u:%d", (unsigned) its->context, (int) its->sequence);
    } else {
        snprintf(sequence, sizeof(sequence), "%d", (int) its->sequence);
    }
    if (its->position >= 0) {
        snprintf(position, sizeof(position), "%d", (int) its->position);
    }
    snprintf(life, sizeof(life), "%d", (int) its->life);
    const char * phase = !frame->phases_known ? "-" : its->generation ? "gen" : "prompt";
    const char * const texts[N_OF_SEQUENCES] = {
        sequence, position, phase, top_rate(its->rate, rate), top_share(its->used, used), life,
    };
    top_pen_cells(pen, its->rate > 0.0 ? GRID_PLAIN : GRID_FAINT, sequence_widths, texts, N_OF_SEQUENCES);
}

static void put_sequences(struct grid * grid, const struct top_area * area, const struct watch_frame * frame) {
    static const char * const titles[N_OF_SEQUENCES] = { "SLOT", "POS", "PHASE", "T/S", "USED", "LIFE" };
    char         title[80];
    const size_t room = rows_below_head(area);
    size_t       row  = TOP_PANE_HEAD;
    const bool   known = frame->phases_known || frame->n_sequences > 0;
    if (!known) {
        snprintf(title, sizeof(title), "sequences");
    } else if (frame->n_sequences <= room) {
        snprintf(title, sizeof(title), "sequences: %zu", frame->n_sequences);
    } else {
        snprintf(title, sizeof(title), "sequences: the latest %zu of %zu", room, frame->n_sequences);
    }
    put_title(grid, area, title);
    struct top_pen head = pen_of(grid, area, 1);
    top_pen_cells(&head, GRID_HEAD, sequence_widths, titles, N_OF_SEQUENCES);
    if (frame->n_sequences == 0) {
        put_nothing(grid, area, known ? "none had a token yet" : "not known");
    }
    for (size_t i = 0; i < frame->n_sequences && room > 0; i++) {
        if (is_among_latest(frame, i, room)) {
            struct top_pen pen = pen_of(grid, area, row++);
            put_sequence(&pen, frame, &frame->sequences[i]);
        }
    }
}

const struct top_pane top_pane_sequences = { 34, 40, sequences_rows, put_sequences };

//
// caches
//

// Behind them are those of LRU, and those of llama.cpp's: of prompt and generation, or of all tokens where phases are
// not known.
enum { SLOTS, SIZE, SHARES, N_OF_CACHES = SHARES + 2 * N_TOKEN_PHASES };

static const int cache_widths[N_OF_CACHES] = { [SLOTS] = 5, [SIZE] = 8, [SHARES] = 6, 6, 6, 6 };

static size_t caches_rows(const struct watch_frame * frame) {
    return TOP_PANE_HEAD + (frame->n_sizes > 0 ? frame->n_sizes : 1);
}

static void put_size(struct top_pen * pen, const struct watch_frame * frame, const struct watch_size * size) {
    const bool                 known = frame->phases_known;
    const size_t               n     = known ? N_TOKEN_PHASES : 1;
    const size_t               first = known ? 0 : WATCH_ANY_PHASE;
    const struct watch_share * lru   = isnan(frame->window) ? size->lru_all   : size->lru;
    const struct watch_share * llama = isnan(frame->window) ? size->llama_all : size->llama;
    char slots[TOP_NUMBER_MAX], bytes[QUANTITY_MAX], shares[2 * N_TOKEN_PHASES][TOP_NUMBER_MAX];
    if (isnan(size->bytes)) {
        top_share(size->share, bytes);
    } else {
        quantity_text(size->bytes, bytes);
    }
    const char * none = size->llama_slots > 0 ? NULL : isnan(size->bytes) ? "-" : "off";
    const char * texts[N_OF_CACHES] = { top_decimal(size->slots, size->slots < 100.0 ? 1 : 0, slots), bytes };
    for (size_t i = 0; i < n; i++) {
        texts[SHARES + i]     = top_share(lru[first + i].share, shares[i]);
        texts[SHARES + n + i] = none != NULL ? none : top_share(llama[first + i].share, shares[n + i]);
    }
    top_pen_cells(pen, size->is_asked ? GRID_STRONG : GRID_PLAIN, cache_widths, texts, SHARES + 2 * n);
}

static void put_cache_heads(struct grid * grid, const struct top_area * area, const struct watch_frame * frame) {
    static const char * const above[2][N_OF_CACHES] = {
        { "", "", "LRU", "LLAMA" }, { "", "", "", "LRU", "", "LLAMA" },
    };
    const char * const size = frame->bytes_known ? "SIZE" : "EXPERTS";
    const char * const titles[2][N_OF_CACHES] = {
        { "SLOTS", size, "all", "all" }, { "SLOTS", size, "prompt", "gen", "prompt", "gen" },
    };
    const bool     known = frame->phases_known;
    const size_t   n     = SHARES + 2 * (known ? N_TOKEN_PHASES : 1);
    struct top_pen pen   = pen_of(grid, area, 0);
    top_pen_cells(&pen, GRID_HEAD, cache_widths, above[known], n);
    put_title(grid, area, "hits of a cache");
    pen = pen_of(grid, area, 1);
    top_pen_cells(&pen, GRID_HEAD, cache_widths, titles[known], n);
}

static void put_caches(struct grid * grid, const struct top_area * area, const struct watch_frame * frame) {
    const size_t n = smaller(frame->n_sizes, rows_below_head(area));
    put_cache_heads(grid, area, frame);
    if (frame->n_sizes == 0) {
        put_nothing(grid, area, "nothing was seen yet");
    }
    for (size_t i = 0; i < n; i++) {
        struct top_pen pen = pen_of(grid, area, TOP_PANE_HEAD + i);
        put_size(&pen, frame, &frame->sizes[i]);
    }
}

const struct top_pane top_pane_caches = { 42, 42, caches_rows, put_caches };

//
// hottest experts
//

enum { RANK, HOT_LAYER, HOT_EXPERT, HOT_SHARE, HOT_COUNT, N_OF_HOTTEST };

static const int hottest_widths[N_OF_HOTTEST] = {
    [RANK] = 3, [HOT_LAYER] = 5, [HOT_EXPERT] = 6, [HOT_SHARE] = 6, [HOT_COUNT] = 7,
};

#define HOTTEST_WIDTH 31
#define HOTTEST_ROWS  16 // more are in further columns

static size_t hottest_rows(const struct watch_frame * frame) {
    return TOP_PANE_HEAD + smaller(frame->n_hot, HOTTEST_ROWS);
}

static void put_hot(struct top_pen * pen, const struct watch_frame * frame, size_t i) {
    const struct watch_slot * slot = &frame->hot[i];
    char rank[TOP_NUMBER_MAX], layer[TOP_NUMBER_MAX], expert[TOP_NUMBER_MAX], share[TOP_NUMBER_MAX];
    char count[TOP_NUMBER_MAX];
    snprintf(rank,   sizeof(rank),   "%zu", i + 1);
    snprintf(layer,  sizeof(layer),  "%d",  (int) frame->layers[slot->layer].layer);
    snprintf(expert, sizeof(expert), "%d",  (int) slot->expert);
    const char * const texts[N_OF_HOTTEST] = {
        rank, layer, expert, top_share(slot->share, share), top_count(slot->count, count),
    };
    top_pen_cells(pen, GRID_PLAIN, hottest_widths, texts, N_OF_HOTTEST);
}

// As many columns of them as have room.
static void put_hottest(struct grid * grid, const struct top_area * area, const struct watch_frame * frame) {
    static const char * const titles[N_OF_HOTTEST] = { "", "LAYER", "EXPERT", "SHARE", "COUNT" };
    const size_t room  = rows_below_head(area);
    size_t       i     = 0;
    put_title(grid, area, "hottest experts");
    for (size_t left = area->column; left + HOTTEST_WIDTH <= area->end && i < frame->n_hot && room > 0;
         left += HOTTEST_WIDTH + GAP) {
        const struct top_area column = { area->row, area->n_rows, left, left + HOTTEST_WIDTH };
        struct top_pen        pen    = pen_of(grid, &column, 1);
        top_pen_cells(&pen, GRID_HEAD, hottest_widths, titles, N_OF_HOTTEST);
        for (size_t row = 0; row < room && i < frame->n_hot; row++) {
            pen = pen_of(grid, &column, TOP_PANE_HEAD + row);
            put_hot(&pen, frame, i++);
        }
    }
}

const struct top_pane top_pane_hottest = { HOTTEST_WIDTH, 6 * HOTTEST_WIDTH, hottest_rows, put_hottest };

void top_panes_hottest_row(struct grid * grid, size_t row, const struct watch_frame * frame) {
    struct top_pen pen = top_pen_at(grid, row, 0, grid->n_columns);
    for (size_t i = 0; i < frame->n_hot; i++) {
        char                      share[TOP_NUMBER_MAX];
        const struct watch_slot * slot = &frame->hot[i];
        top_pen_item(&pen, i == 0 ? "hottest" : "", GRID_PLAIN, "%d:%d %s", (int) frame->layers[slot->layer].layer,
                     (int) slot->expert, top_share(slot->share, share));
    }
}
