// What came of an order, in words.

#pragma once

#include "commands/ctl/ctl-order.h"
#include "tool/terminal.h"

// `who`: the process, "llama-server (1234)".
void ctl_text_print(const struct terminal * terminal, const char * who, const struct ctl_order * order,
                    const struct ctl_result * result);

// What was done, "counting begins at zero", allocated. Of verbs that change something.
char * ctl_text_done(const struct ctl_order * order, const struct ctl_result * result);
