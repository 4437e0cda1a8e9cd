// What the files that our commands read begin with, or have in their beginning.

#include "base/other-file.h"

#include <stdbool.h>
#include <string.h>

#define COUNTS "use `show`, `report`, `compare` or `merge`"
#define IMPORT "make a routing trace of it with `import`"

struct other_kind {
    const char * begins;
    const char * has;    // in the beginning, NULL: nothing else
    const char * advice;
};

static const struct other_kind other_trace = { "\x89MOET\r\n\x1a", NULL, "a routing trace: use `report` or `info`" };

static const struct other_kind other_statistics[] = {
    { "GGUF", "imatrix.chunk_count",            "an imatrix, which has counts: " COUNTS },
    { "{",    "\"expert_activations\"",         "statistics: " COUNTS                   },
    { "{",    "llama-expert-tracer-statistics", "statistics: " COUNTS                   },
};

static const struct other_kind other_kinds[] = {
    { "GGUF",                          NULL, "a GGUF model, which has no routing: trace a program that uses it" },
    { "\x93NUMPY",                     NULL, "an npy array: " IMPORT                                            },
    { "# route_trace",                 NULL, "a route trace of BigMoeOnEdge: " IMPORT                           },
    { "ubatch,token,context,sequence", NULL, "a csv export: " IMPORT                                            },
    { "{\"ubatch\":",                  NULL, "a jsonl export: " IMPORT                                          },
    { "layer,expert\n",                NULL, "a moe-trace: " IMPORT                                             },
    { "pos,layer,id0",                 NULL, "a moe-cache-profile: " IMPORT                                     },
    { "\x7f" "ELF",                    NULL, "a program or library: `check` reads those"                        },
    { "{", "\"logical_count\"",              "counts of SGLang: make statistics of them with `import`"          },
};

static bool is_of(const char * head, size_t size, const struct other_kind * kind) {
    const size_t length = strlen(kind->begins);
    return size >= length && memcmp(head, kind->begins, length) == 0
        && (kind->has == NULL || memmem(head, size, kind->has, strlen(kind->has)) != NULL);
}

static const char * find_other(const char * head, size_t size, const struct other_kind * kinds, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (is_of(head, size, &kinds[i])) {
            return kinds[i].advice;
        }
    }
    return NULL;
}

const char * other_file(const void * head, size_t size, enum other_file_reader reader) {
    const size_t n_statistics = sizeof(other_statistics) / sizeof(other_statistics[0]);
    const size_t n_kinds      = sizeof(other_kinds) / sizeof(other_kinds[0]);
    const char * statistics   = find_other(head, size, other_statistics, n_statistics);
    if (statistics != NULL) {
        return reader == OTHER_THAN_STATISTICS ? NULL : statistics;
    }
    if (is_of(head, size, &other_trace)) {
        return reader == OTHER_THAN_TRACES ? NULL : other_trace.advice;
    }
    return find_other(head, size, other_kinds, n_kinds);
}
