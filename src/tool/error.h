// What went wrong, told once: which file, what is wrong with it, what to do.

#pragma once

#include <stdbool.h>
#include <stddef.h>

enum {
    STATUS_OK     = 0,
    STATUS_FAILED = 1,
    STATUS_USAGE  = 2,
};

struct error {
    char text[2048];
};

// Always false, so that a function that fails can end in it.
bool error_set(struct error * error, const char * format, ...) __attribute__((format(printf, 2, 3)));

// To stderr, "llama-expert-tracer: " before and a newline behind.
void error_say    (const char * format, ...) __attribute__((format(printf, 1, 2)));
void error_warning(const char * format, ...) __attribute__((format(printf, 1, 2)));

// What follows it: whole lines, without the last one's newline.
void error_more(const char * lines);

// Memory or the end of the program.
void * memory_new   (size_t n, size_t size); // zeros
void * memory_resize(void * memory, size_t n, size_t size);
char * memory_text  (const char * format, ...) __attribute__((format(printf, 1, 2)));
char * memory_append(char * text, char * more); // both in one; what was given is freed
