// What a script starts, as far as its text is plain.

#include "tool/launch/script.h"

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
    snprintf(interpreter, n_interpreter, "%.*s", (int) (end - begin < n_interpreter ? end - begin : n_interpreter - 1),
             text + begin);
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

// What comes before a command, and is none itself.
static const char * skip_prefix(const char * line, const char * end) {
    static const char * const words[] = {
        "exec", "sudo", "env", "if", "then", "else", "do", "time", "nohup", "!", "&&", "||",
    };
    for (bool found = true; found;) {
        found = false;
        while (line < end && strchr(" \t;|&(", *line) != NULL) {
            line++;
        }
        for (size_t i = 0; i < sizeof(words) / sizeof(words[0]) && !found; i++) {
            const size_t n = strlen(words[i]);
            found = (size_t) (end - line) > n && memcmp(line, words[i], n) == 0 && strchr(" \t", line[n]) != NULL;
            line += found ? n : 0;
        }
    }
    return line;
}

// The word, or a path that ends in it.
static bool is_command(const char * line, const char * end, const char * program) {
    size_t n = 0;
    while (line + n < end && strchr(" \t;|&()\"'\r", line[n]) == NULL) {
        n++;
    }
    const size_t length = strlen(program);
    return n >= length && memcmp(line + n - length, program, length) == 0
        && (n == length || line[n - length - 1] == '/');
}

// "#!/bin/sh", "#!/usr/bin/env bash", or nothing of the kind.
static bool is_of_shell(const char * text, const char * end) {
    if (end - text < 2 || memcmp(text, "#!", 2) != 0) {
        return true;
    }
    const char * newline = memchr(text, '\n', (size_t) (end - text));
    const char * stop    = newline == NULL ? end : newline;
    const char * option  = memmem(text, (size_t) (stop - text), " -", 2);
    stop = option == NULL ? stop : option;
    while (stop > text && (stop[-1] == ' ' || stop[-1] == '\r')) {
        stop--;
    }
    return stop - text > 4 && memcmp(stop - 2, "sh", 2) == 0;
}

bool script_has_command(const void * bytes, size_t size, const char * program) {
    const char * text = bytes;
    const char * end  = text + (size < SCRIPT_MAX ? size : SCRIPT_MAX);
    if (!is_of_shell(text, end)) {
        return false;
    }
    for (const char * line = text; line < end;) {
        const char * newline = memchr(line, '\n', (size_t) (end - line));
        const char * stop    = newline == NULL ? end : newline;
        while (line < stop) {
            if (is_command(skip_prefix(line, stop), stop, program)) {
                return true;
            }
            while (line < stop && strchr(";&|(", *line) == NULL) {
                line++;
            }
            line += line < stop;
        }
        line = stop + 1;
    }
    return false;
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
