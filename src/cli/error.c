#include "error.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char * error_clean(char * text) {
    for (unsigned char * c = (unsigned char *) text; *c != '\0'; c++) {
        const bool is_c0 = (*c < 0x20 && *c != '\n') || *c == 0x7f;
        const bool is_c1 = c[0] == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0; // U+0080 to U+009F in UTF-8
        if (is_c0) {
            *c = '?';
        } else if (is_c1) {
            c[0] = c[1] = '?';
        }
    }
    return text;
}

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
    fprintf(stderr, "llama-expert-tracer: %s%s\n", kind, error_clean(error.text));
}

void error_say(const char * format, ...) {
    va_list args;
    va_start(args, format);
    say("", format, args);
    va_end(args);
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
