// What every command says where it was called wrongly.

#include "tool/command.h"

#include "tool/error.h"

#include <stdarg.h>
#include <stdio.h>

int command_usage_error(const struct command * command, const char * format, ...) {
    struct error error;
    va_list      args;
    va_start(args, format);
    vsnprintf(error.text, sizeof(error.text), format, args);
    va_end(args);

    error_say("%s: %s", command->name, error.text);
    fprintf(stderr, "try: llama-expert-tracer %s --help\n", command->name);
    return STATUS_USAGE;
}
