// What a watch of a running model has found, as JSON of `serve` and `top` (docs/json.md).

#pragma once

#include "watch/watch-frame.h"

#include <jansson.h>

// A new reference.
json_t * watch_json(const struct watch_frame * frame);
