// What `serve` counts for Prometheus: the text of one scrape.

#pragma once

#include "serve/serve-processes.h"

#include <stdbool.h>

#define SERVE_METRICS_TEXT        "text/plain; version=0.0.4; charset=utf-8"
#define SERVE_METRICS_OPENMETRICS "application/openmetrics-text; version=1.0.0; charset=utf-8"

struct serve_metrics {
    bool openmetrics; // otherwise Prometheus' own format
    bool per_expert;
};

// Allocated, NULL where memory runs out.
char * serve_metrics_text(struct serve_processes * processes, const struct serve_metrics * metrics);
