// What went wrong, reported once, to stderr, and memory that is there or ends the program.

#include "tool/error.h"

#include "base/clean.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool error_set(struct error * error, const char * format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(error->text, sizeof(error->text), format, args);
    va_end(args);
    return false;
}

static void say(const char * kind, const char * format, va_list args) {
    struct error error;
    vsnprintf(error.text, sizeof(error.text), format, args);
    fflush(stdout);
    fprintf(stderr, "llama-expert-tracer: %s%s\n", kind, clean_in_place(error.text));
}

void error_say(const char * format, ...) {
    va_list args;
    va_start(args, format);
    say("", format, args);
    va_end(args);
}

void error_more(const char * lines) {
    char * text = memory_text("%s", lines);
    for (char * line = text, * end; line != NULL; line = end) {
        end = strchr(line, '\n');
        if (end != NULL) {
            *end++ = '\0';
        }
        fprintf(stderr, "%s\n", clean_in_place(line));
    }
    free(text);
}

void error_warning(const char * format, ...) {
    va_list args;
    va_start(args, format);
    say("warning: ", format, args);
    va_end(args);
}

static void * memory_or_exit(void * memory) {
    if (memory == NULL) {
        error_say("out of memory");
        exit(STATUS_FAILED);
    }
    return memory;
}

void * memory_new(size_t n, size_t size) {
    return memory_or_exit(calloc(n == 0 ? 1 : n, size));
}

void * memory_resize(void * memory, size_t n, size_t size) {
    return memory_or_exit(n > SIZE_MAX / size ? NULL : realloc(memory, n == 0 ? 1 : n * size));
}

char * memory_text(const char * format, ...) {
    char  * text = NULL;
    va_list args;
    va_start(args, format);
    const int n = vasprintf(&text, format, args);
    va_end(args);
    return memory_or_exit(n < 0 ? NULL : text);
}

char * memory_append(char * text, char * more) {
    char * both = memory_text("%s%s", text, more);
    free(text);
    free(more);
    return both;
}
