// Collects the amendments of a trace, and finds those of a ubatch.

#include "trace/read/trace-amendments.h"

#include "trace/format/trace-format.h"
#include "trace/read/trace-records.h"

#include <stdlib.h>

static bool append(struct trace_amendment_list * list, const struct trace_amendment * amendment) {
    if (!trace_array_grow(&list->items, &list->room, list->n + 1, sizeof(list->items[0]))) {
        return false;
    }
    list->items[list->n++] = *amendment;
    return true;
}

static bool add_warmup(struct trace_amendments * amendments, struct trace_bytes * body) {
    struct trace_amendment warmup = { 0 };
    warmup.ubatch = trace_bytes_varint(body);
    warmup.n      = trace_bytes_varint(body);
    return body->failed || append(&amendments->warmups, &warmup);
}

static bool add_rejection(struct trace_amendments * amendments, struct trace_bytes * body) {
    struct trace_amendment rejection;
    rejection.ubatch = trace_bytes_varint(body);
    rejection.first  = trace_bytes_varint(body);
    rejection.n      = trace_bytes_varint(body);
    return body->failed || append(&amendments->rejections, &rejection);
}

bool trace_amendments_add(struct trace_amendments * amendments, const struct trace_buffer * payload) {
    struct trace_bytes records = trace_bytes_of(payload->data, payload->size);
    struct trace_bytes body    = { 0 };
    bool               ok      = true;
    while (ok && trace_bytes_left(&records) > 0) {
        switch (trace_record_next(&records, &body)) {
            case TRACE_AMENDMENT_WARMUP:   ok = add_warmup   (amendments, &body); break;
            case TRACE_AMENDMENT_REJECTED: ok = add_rejection(amendments, &body); break;
            default:                       break;
        }
    }
    return ok;
}

static int compare(uint64_t a, uint64_t b) {
    return a < b ? -1 : a > b;
}

static int by_ubatch(const void * left, const void * right) {
    const struct trace_amendment * a = left;
    const struct trace_amendment * b = right;
    return a->ubatch != b->ubatch ? compare(a->ubatch, b->ubatch) : compare(a->first, b->first);
}

static uint64_t sum(uint64_t a, uint64_t b) {
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

// Makes one of two that overlap or follow each other. Returns false where they do not.
static bool join_warmup(struct trace_amendment * before, const struct trace_amendment * next) {
    const uint64_t end = sum(next->ubatch, next->n);
    if (sum(before->ubatch, before->n) < next->ubatch) {
        return false;
    }
    before->n = end - before->ubatch > before->n ? end - before->ubatch : before->n;
    return true;
}

static bool join_rejection(struct trace_amendment * before, const struct trace_amendment * next) {
    const uint64_t end = sum(next->first, next->n);
    if (before->ubatch != next->ubatch || sum(before->first, before->n) < next->first) {
        return false;
    }
    before->n = end - before->first > before->n ? end - before->first : before->n;
    return true;
}

typedef bool join_fn(struct trace_amendment * before, const struct trace_amendment * next);

// What was sorted before stays where it is, unless something new belongs in front of it.
static void sort(struct trace_amendment_list * list, join_fn * join) {
    size_t n = list->n_sorted;
    if (list->n == n) {
        return;
    }
    qsort(list->items + n, list->n - n, sizeof(list->items[0]), by_ubatch);
    if (n > 0 && by_ubatch(&list->items[n - 1], &list->items[n]) > 0) {
        qsort(list->items, list->n, sizeof(list->items[0]), by_ubatch);
        n = 0;
    }
    for (size_t i = n; i < list->n; i++) {
        if (n == 0 || !join(&list->items[n - 1], &list->items[i])) {
            list->items[n++] = list->items[i];
        }
    }
    list->n        = n;
    list->n_sorted = n;
}

void trace_amendments_sort(struct trace_amendments * amendments) {
    sort(&amendments->warmups,    join_warmup);
    sort(&amendments->rejections, join_rejection);
}

void trace_amendments_free(struct trace_amendments * amendments) {
    free(amendments->warmups.items);
    free(amendments->rejections.items);
}

// The first one that begins with this ubatch or later.
static size_t lower_bound(const struct trace_amendment_list * list, uint64_t ubatch) {
    size_t low  = 0;
    size_t high = list->n;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (list->items[middle].ubatch < ubatch) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

bool trace_amendments_warmup(const struct trace_amendments * amendments, uint64_t ubatch) {
    const struct trace_amendment_list * list = &amendments->warmups;
    const size_t i = ubatch == UINT64_MAX ? list->n : lower_bound(list, ubatch + 1);
    return i > 0 && ubatch - list->items[i - 1].ubatch < list->items[i - 1].n;
}

void trace_amendments_reject(const struct trace_amendments * amendments, uint64_t ubatch, struct trace_token * tokens,
                             int32_t n_tokens) {
    const struct trace_amendment_list * list = &amendments->rejections;
    for (size_t i = lower_bound(list, ubatch); i < list->n && list->items[i].ubatch == ubatch; i++) {
        const struct trace_amendment * rejection = &list->items[i];
        for (uint64_t j = 0; j < rejection->n && rejection->first < (uint64_t) n_tokens - j; j++) {
            tokens[rejection->first + j].rejected = true;
        }
    }
}
