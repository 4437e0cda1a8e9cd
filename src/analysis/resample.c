// Keeps sums by unit in the order of lives and blocks, takes neighbours together where there are too many, and draws.

#include "analysis/resample.h"

#include "analysis/random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SHIFT_MOST 31   // of blocks: a life is one block then
#define SEED       1
#define QUANTILE   1.959963984540054 // of the normal distribution at 97.5 %

struct unit {
    uint64_t   life;  // shifted
    uint64_t   block; // likewise
    uint32_t   index; // of its sums
};

struct resample {
    size_t        n_series;
    unsigned      life_shift;
    unsigned      block_shift;
    size_t        n_units;
    struct unit   units[RESAMPLE_MOST + 1]; // ascending by life and block
    uint64_t    * sums[RESAMPLE_MOST + 1];  // [n_series], NULL: not used yet
};

struct resample * resample_new(size_t n_series) {
    struct resample * resample = calloc(1, sizeof(*resample));
    if (resample != NULL) {
        resample->n_series = n_series;
    }
    return resample;
}

void resample_free(struct resample * resample) {
    if (resample != NULL) {
        for (size_t i = 0; i <= RESAMPLE_MOST; i++) {
            free(resample->sums[i]);
        }
        free(resample);
    }
}

//
// finding units
//

static struct unit unit_of(const struct resample * resample, const struct resample_token * token) {
    const uint64_t position = token->position < 0 ? 0 : (uint64_t) token->position;
    return (struct unit) { token->life >> resample->life_shift,
                           position / RESAMPLE_BLOCK >> resample->block_shift, 0 };
}

static bool is_before(const struct unit * a, const struct unit * b) {
    return a->life != b->life ? a->life < b->life : a->block < b->block;
}

static bool is_same(const struct unit * a, const struct unit * b) {
    return a->life == b->life && a->block == b->block;
}

// The first unit that does not come before this one.
static size_t place_of(const struct resample * resample, const struct unit * unit) {
    size_t low  = 0;
    size_t high = resample->n_units;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (is_before(&resample->units[middle], unit)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void add_sums(uint64_t * to, const uint64_t * from, size_t n) {
    for (size_t i = 0; i < n; i++) {
        to[i] += from[i];
    }
}

// Units of what is the same place now become one; their sums are kept in front, so that those after them are free.
static void take_together(struct resample * resample) {
    uint64_t * sums[RESAMPLE_MOST + 1];
    size_t     n     = 0;
    size_t     n_end = resample->n_units;
    memcpy(sums, resample->sums, sizeof(sums));
    for (size_t i = 0; i < resample->n_units; i++) {
        const struct unit unit = resample->units[i];
        uint64_t        * own  = sums[unit.index];
        if (n > 0 && is_same(&resample->units[n - 1], &unit)) {
            add_sums(resample->sums[n - 1], own, resample->n_series);
            memset(own, 0, resample->n_series * sizeof(*own));
            resample->sums[--n_end] = own;
        } else {
            resample->units[n] = (struct unit) { unit.life, unit.block, (uint32_t) n };
            resample->sums[n++] = own;
        }
    }
    resample->n_units = n;
}

static bool has_blocks(const struct resample * resample) {
    for (size_t i = 1; i < resample->n_units; i++) {
        if (resample->units[i].life == resample->units[i - 1].life) {
            return true;
        }
    }
    return false;
}

// Larger blocks, as long as any life has several of them, then more lives in one.
static void make_room(struct resample * resample) {
    while (resample->n_units > RESAMPLE_MOST) {
        const bool     blocks = has_blocks(resample);
        const unsigned more   = blocks ? 1 : SHIFT_MOST - resample->block_shift;
        for (size_t i = 0; i < resample->n_units; i++) {
            struct unit * unit = &resample->units[i];
            unit->block >>= more;
            unit->life  >>= blocks ? 0 : 1;
        }
        resample->block_shift += more;
        resample->life_shift  += blocks ? 0 : 1;
        take_together(resample);
    }
}

// The place of a unit, made where it is not there yet; RESAMPLE_MOST + 1: out of memory.
static size_t make_unit(struct resample * resample, const struct unit * unit) {
    const size_t place = place_of(resample, unit);
    if (place < resample->n_units && is_same(&resample->units[place], unit)) {
        return place;
    }
    uint64_t ** sums = &resample->sums[resample->n_units];
    if (*sums == NULL && (*sums = calloc(resample->n_series + 1, sizeof(**sums))) == NULL) {
        return RESAMPLE_MOST + 1;
    }
    memmove(resample->units + place + 1, resample->units + place, (resample->n_units - place) * sizeof(*unit));
    resample->units[place]       = *unit;
    resample->units[place].index = (uint32_t) resample->n_units++;
    return place;
}

bool resample_find(struct resample * resample, size_t n, const struct resample_token * tokens, uint64_t ** sums) {
    for (size_t i = 0; i < n; i++) {
        sums[i] = NULL;
        if (tokens[i].life == RESAMPLE_NOBODY) {
            continue;
        }
        const struct unit unit  = unit_of(resample, &tokens[i]);
        const size_t      place = make_unit(resample, &unit);
        if (place > RESAMPLE_MOST) {
            return false;
        }
        sums[i] = resample->sums[resample->units[place].index];
        if (resample->n_units > RESAMPLE_MOST) {
            make_room(resample);
            i = (size_t) -1; // those found so far are units of before
        }
    }
    return true;
}

//
// drawing
//

// The sums of each unit of which there are requests, by lives or by blocks: `of_unit` [n_units][n_series].
static size_t gather(const struct resample * resample, size_t base, size_t first, const struct resample_draws * draws,
                     double * of_unit) {
    const size_t n_series = draws->n_series;
    uint64_t     life     = 0;
    size_t       n        = 0;
    for (size_t i = 0; i < resample->n_units; i++) {
        const struct unit * unit = &resample->units[i];
        const uint64_t    * sums = resample->sums[unit->index];
        if (sums[base] == 0) {
            continue;
        }
        if (n == 0 || !draws->by_lives || unit->life != life) {
            life = unit->life;
            n++;
        }
        for (size_t k = 0; k < n_series; k++) {
            of_unit[(n - 1) * n_series + k] += (double) sums[first + k];
        }
    }
    return n;
}

static void draw(struct resample_draws * draws, const double * of_unit) {
    uint64_t state = SEED;
    for (size_t i = 0; i < RESAMPLE_DRAWS; i++) {
        double * sums = draws->draws + i * draws->n_series;
        for (size_t j = 0; j < draws->n_units; j++) {
            const double * unit = of_unit + random_next(&state) % draws->n_units * draws->n_series;
            for (size_t k = 0; k < draws->n_series; k++) {
                sums[k] += unit[k];
            }
        }
    }
}

static bool gather_units(const struct resample * resample, size_t base, size_t first, struct resample_draws * draws,
                         double ** of_unit) {
    const size_t size = (resample->n_units + 1) * draws->n_series;
    draws->by_lives = true;
    draws->totals   = calloc(draws->n_series + 1, sizeof(*draws->totals));
    *of_unit        = calloc(size + 1, sizeof(**of_unit));
    if (draws->totals == NULL || *of_unit == NULL) {
        return false;
    }
    draws->n_units = gather(resample, base, first, draws, *of_unit);
    if (draws->n_units < RESAMPLE_LEAST) {
        memset(*of_unit, 0, size * sizeof(**of_unit));
        draws->by_lives = false;
        draws->n_units  = gather(resample, base, first, draws, *of_unit);
    }
    for (size_t i = 0; i < draws->n_units * draws->n_series; i++) {
        draws->totals[i % draws->n_series] += (*of_unit)[i];
    }
    return true;
}

bool resample_draw(const struct resample * resample, size_t base, size_t first, size_t n_series,
                   struct resample_draws * draws) {
    double * of_unit;
    *draws = (struct resample_draws) { .n_series = n_series };
    bool ok = gather_units(resample, base, first, draws, &of_unit);
    if (ok && draws->n_units >= RESAMPLE_LEAST) {
        draws->draws = calloc(RESAMPLE_DRAWS * n_series + 1, sizeof(*draws->draws));
        ok           = draws->draws != NULL;
        if (ok) {
            draw(draws, of_unit);
        }
    }
    free(of_unit);
    return ok;
}

void resample_draws_free(struct resample_draws * draws) {
    free(draws->totals);
    free(draws->draws);
}

//
// intervals
//

// Of Student's t at 97.5 %, from 7 degrees of freedom on good to the third digit (Abramowitz and Stegun 1964, 26.7.5).
static double student(double freedom) {
    const double z  = QUANTILE;
    const double g1 = (pow(z, 3) + z) / 4;
    const double g2 = (5 * pow(z, 5) + 16 * pow(z, 3) + 3 * z) / 96;
    const double g3 = (3 * pow(z, 7) + 19 * pow(z, 5) + 17 * pow(z, 3) - 15 * z) / 384;
    return z + g1 / freedom + g2 / pow(freedom, 2) + g3 / pow(freedom, 3);
}

// The share of draws that lie below the interval, and above it.
static double tail_of(size_t n_units) {
    const double n = (double) n_units;
    return 0.5 * erfc(sqrt(n / (n - 1)) * student(n - 1) / sqrt(2));
}

static int ascending(const void * a, const void * b) {
    const double x = *(const double *) a;
    const double y = *(const double *) b;
    return (x > y) - (x < y);
}

static double percentile(const double * values, size_t n, double share) {
    const double place = share * (double) (n - 1);
    const size_t whole = (size_t) place;
    const double next  = whole + 1 < n ? values[whole + 1] : values[whole];
    return values[whole] + (place - (double) whole) * (next - values[whole]);
}

struct interval resample_interval(const struct resample_draws * draws, resample_value * value, const void * self) {
    double values[RESAMPLE_DRAWS];
    size_t n = 0;
    for (size_t i = 0; draws->draws != NULL && i < RESAMPLE_DRAWS; i++) {
        values[n] = value(draws->draws + i * draws->n_series, self);
        n        += isfinite(values[n]);
    }
    if (n == 0) {
        return (struct interval) { NAN, NAN };
    }
    const double tail = tail_of(draws->n_units);
    qsort(values, n, sizeof(*values), ascending);
    return (struct interval) { percentile(values, n, tail), percentile(values, n, 1 - tail) };
}

struct share {
    size_t part;
    size_t whole;
};

static double share_of(const double * sums, const void * self) {
    const struct share * share = self;
    return sums[share->whole] > 0 ? sums[share->part] / sums[share->whole] : (double) NAN;
}

struct interval resample_share(const struct resample_draws * draws, size_t part, size_t whole) {
    const struct share share = { part, whole };
    return resample_interval(draws, share_of, &share);
}
