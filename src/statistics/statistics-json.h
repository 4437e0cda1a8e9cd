// Statistics out of JSON and into JSON, without files.

#pragma once

#include "statistics/statistics.h"

#include <jansson.h>

// `path` is for messages. `text` need not end in a NUL.
struct statistics * statistics_json_parse(const char * path, const char * text, size_t size, struct error * error);

// A new reference, every known part of the statistics in it.
json_t * statistics_json_of     (const struct statistics * statistics);
json_t * statistics_json_summary(const struct statistics_section * section);
