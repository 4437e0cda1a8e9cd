// What running tracers say of themselves, as JSON of `ps` and `ctl`.

#pragma once

#include "live/live-status.h"

#include <jansson.h>

json_t * live_json_status(const struct live_status * status); // NULL: null
