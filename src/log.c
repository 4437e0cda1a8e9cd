#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void log_line(log_fn say, enum log_level level, const char * format, ...) {
    char   line[4096 + 512]; // room for a path
    size_t used = strlen(LOG_PREFIX);
    memcpy(line, LOG_PREFIX, used);

    va_list args;
    va_start(args, format);
    int n = vsnprintf(line + used, sizeof(line) - used - 1, format, args);
    va_end(args);
    if (n < 0) {
        return;
    }
    used = strlen(line);
    line[used]     = '\n';
    line[used + 1] = '\0';
    say(level, line);
}
