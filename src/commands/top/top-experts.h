// One layer with all of its experts.

#pragma once

#include "commands/top/top-panes.h"

// By count or by number, down columns, from the `scroll`-th on: that becomes what there is, and `page` what has room.
void top_experts_put(struct grid * grid, const struct top_area * area, const struct watch_frame * frame,
                     struct top_view * view);
