#include "script.h"

#include <stdio.h>
#include <string.h>

#define PROLOGUE   256
#define SCRIPT_MAX (64 * 1024)

static bool is_text(const unsigned char * bytes, size_t size) {
    return size > 0 && memchr(bytes, '\0', size < PROLOGUE ? size : PROLOGUE) == NULL;
}

bool script_interpreter(const void * bytes, size_t size, char * interpreter, size_t n_interpreter) {
    const char * text = bytes;
    if (size < 2 || memcmp(text, "#!", 2) != 0) {
        snprintf(interpreter, n_interpreter, "/bin/sh");
        return is_text(bytes, size);
    }
    size_t begin = 2;
    while (begin < size && (text[begin] == ' ' || text[begin] == '\t')) {
        begin++;
    }
    size_t end = begin;
    while (end < size && strchr(" \t\r\n", text[end]) == NULL) {
        end++;
    }
    snprintf(interpreter, n_interpreter, "%.*s", (int) (end - begin < n_interpreter ? end - begin : n_interpreter - 1), text + begin);
    return end > begin;
}

// The word of an `exec` line, quotes taken off. False where the shell would have to think about it.
static bool read_word(const char * line, size_t n, char * word, size_t n_word) {
    const char quote = n > 0 && (*line == '"' || *line == '\'') ? *line : '\0';
    size_t     i     = quote != '\0';
    size_t     out   = 0;
    for (; i < n && line[i] != quote && (quote != '\0' || strchr(" \t;&|", line[i]) == NULL); i++) {
        if (strchr("$`\\*?[~<>(){}\"'=", line[i]) != NULL || out + 1 >= n_word) {
            return false;
        }
        word[out++] = line[i];
    }
    word[out] = '\0';
    return out > 0 && word[0] != '-';
}

bool script_exec_target(const void * bytes, size_t size, char * target, size_t n_target) {
    const char * text   = bytes;
    const char * end    = text + (size < SCRIPT_MAX ? size : SCRIPT_MAX);
    size_t       n_exec = 0;
    bool         plain  = false;
    for (const char * line = text; line < end;) {
        const char * newline = memchr(line, '\n', (size_t) (end - line));
        const char * stop    = newline == NULL ? end : newline;
        while (line < stop && (*line == ' ' || *line == '\t')) {
            line++;
        }
        if (stop - line > 5 && memcmp(line, "exec ", 5) == 0) {
            n_exec++;
            line += 5;
            while (line < stop && *line == ' ') {
                line++;
            }
            plain = read_word(line, (size_t) (stop - line), target, n_target);
        }
        line = stop + 1;
    }
    return n_exec == 1 && plain;
}
