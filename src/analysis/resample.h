// How sure a rate is: what was counted is kept by units that are as good as independent, and units are drawn again and
// again with replacement (the bootstrap of Efron 1979, of clusters).
//
// Requests follow from each other: a token asks for what the token before it asked for, and what a cache has depends on
// all that went before. Intervals that take them as independent are far too narrow. Lives of sequences, conversations,
// have little to do with each other: they are the units where there are RESAMPLE_LEAST of them. Where there are fewer,
// the blocks of RESAMPLE_BLOCK tokens that they consist of are (the block bootstrap of Kuensch 1989).
//
// However long a trace is, RESAMPLE_MOST units are kept at most: blocks grow, and then lives that follow each other
// are taken together.
//
// One thread at a time.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RESAMPLE_BLOCK 64  // tokens of one life
#define RESAMPLE_LEAST 8   // units that an interval takes
#define RESAMPLE_MOST  256 // units that are kept
#define RESAMPLE_DRAWS 1000

// 95 %, NAN: not known.
struct interval {
    double low;
    double high;
};

#define RESAMPLE_NOBODY UINT64_MAX

struct resample_token {
    uint64_t life;     // from 0 in the order in which they begin; RESAMPLE_NOBODY: not looked at
    int32_t  position; // in it, below 0: not known
};

struct resample;

// Of each unit `n_series` sums are kept. NULL: out of memory.
struct resample * resample_new (size_t n_series);
void              resample_free(struct resample * resample);

// sums[n] of the tokens' units, NULL of nobody's: each is [n_series], to be added to until the next call. False: out of
// memory.
bool resample_find(struct resample * resample, size_t n, const struct resample_token * tokens, uint64_t ** sums);

// The sums of all units, and of RESAMPLE_DRAWS times as many units drawn from them at random, always the same ones.
struct resample_draws {
    bool     by_lives; // units are lives, otherwise blocks
    size_t   n_units;
    size_t   n_series; // that were drawn: the first of them is 0 here
    double * totals;   // [n_series] of all units
    double * draws;    // [RESAMPLE_DRAWS][n_series] NULL: fewer than RESAMPLE_LEAST units
};

// Of n_series series, from the one `first` on. The series `base` counts requests: units where it is 0 are none. False:
// out of memory; the draws must be freed all the same.
bool resample_draw      (const struct resample * resample, size_t base, size_t first, size_t n_series,
                         struct resample_draws * draws);
void resample_draws_free(struct resample_draws * draws);

// What is made of sums; NAN where they do not tell.
typedef double resample_value(const double * sums, const void * self);

// The interval of a value: the "expanded" percentiles of Hesterberg 2015 ("What Teachers Should Know About the
// Bootstrap", 5.3), which are as much wider as Student's t of n - 1 degrees of freedom and the standard deviation of
// few units ask for. NAN where there are fewer than RESAMPLE_LEAST units.
struct interval resample_interval(const struct resample_draws * draws, resample_value * value, const void * self);

// Of the share that one series has of another.
struct interval resample_share(const struct resample_draws * draws, size_t part, size_t whole);
