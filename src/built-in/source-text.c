// Reads a source file and blanks its comments.

#include "built-in/source-text.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char * source_text_read(const char * path, struct error * error) {
    FILE * file = fopen(path, "rb");
    if (file == NULL) {
        error_set(error, "%s: %s", path, strerror(errno));
        return NULL;
    }
    char * text = NULL;
    size_t size = 0;
    size_t room = 0;
    for (size_t n = 1; n > 0; size += n) {
        if (size + 65536 > room) {
            room = 2 * room + 131072;
            text = memory_resize(text, room, 1);
        }
        n = fread(text + size, 1, 65536 - 1, file);
    }
    text[size] = '\0';
    const bool failed = ferror(file);
    fclose(file);
    if (failed || strlen(text) != size) {
        error_set(error, "%s: %s", path, failed ? "cannot be read" : "not a text file");
        free(text);
        return NULL;
    }
    return text;
}

void source_text_blank_comments(char * code, const char * line_comment) {
    const bool is_c  = line_comment[0] == '/';
    char       quote = '\0';
    for (char * at = code; *at != '\0'; at++) {
        if (quote != '\0') {
            if (*at == '\\' && at[1] != '\0') {
                at++;
            } else if (*at == quote) {
                quote = '\0';
            }
        } else if (*at == '"' || (is_c && *at == '\'' && (at == code || !isalnum((unsigned char) at[-1])))) {
            quote = *at;
        } else if (strncmp(at, line_comment, strlen(line_comment)) == 0) {
            const size_t n = strcspn(at, "\n");
            memset(at, ' ', n);
            at += n - 1;
        } else if (is_c && strncmp(at, "/*", 2) == 0) {
            const char * end = strstr(at + 2, "*/");
            const size_t n   = end == NULL ? strlen(at) : (size_t) (end + 2 - at);
            memset(at, ' ', n);
            at += n - 1;
        }
    }
}
