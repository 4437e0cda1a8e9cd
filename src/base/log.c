// Formats lines of the log, each as one, for whoever prints them.

#include "base/log.h"

#include "base/clean.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define LINE_MAX_SIZE (4096 + 512) // room for a path

void log_line(log_fn say, enum log_level level, const char * format, ...) {
    char    text[LINE_MAX_SIZE];
    char    line[sizeof(LOG_PREFIX) + LINE_MAX_SIZE + 1] = LOG_PREFIX;
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (n < 0) {
        return;
    }
    size_t used = strlen(line);
    clean_copy(line + used, sizeof(line) - used - 1, text);
    used += strlen(line + used);
    line[used]     = '\n';
    line[used + 1] = '\0';
    say(level, line);
}
