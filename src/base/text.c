// Grows text with printf formats, lines of the log and JSON strings.

#include "base/text.h"

#include "base/clean.h"
#include "base/log.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool make_room(struct text * text, size_t n) {
    if (text->length + n + 1 <= text->room) {
        return true;
    }
    const size_t room = (text->length + n + 1) * 2 + 256;
    char       * data = realloc(text->data, room);
    if (data == NULL) {
        text->failed = true;
        return false;
    }
    text->data = data;
    text->room = room;
    return true;
}

void text_add(struct text * text, const char * format, ...) {
    va_list args;
    va_list again;
    va_start(args, format);
    va_copy(again, args);
    const size_t left = text->room - text->length;
    int n = vsnprintf(left ? text->data + text->length : NULL, left, format, args);
    if (n >= 0 && (size_t) n >= left && make_room(text, (size_t) n)) {
        n = vsnprintf(text->data + text->length, text->room - text->length, format, again);
    }
    va_end(again);
    va_end(args);
    if (n < 0) {
        text->failed = true;
    } else if (!text->failed) {
        text->length += (size_t) n;
    }
}

void text_add_line(struct text * text, const char * format, ...) {
    char  * body = NULL;
    va_list args;
    va_start(args, format);
    const int n = vasprintf(&body, format, args);
    va_end(args);
    if (n < 0) {
        text->failed = true;
        return;
    }
    const size_t most = CLEAN_MARK_SIZE * (size_t) n + 1;
    text_add(text, LOG_PREFIX);
    char * room = text_room(text, most);
    if (room != NULL) {
        clean_copy(room, most, body);
        text_take(text, strlen(room));
        text_add(text, "\n");
    }
    free(body);
}

void text_add_json_string(struct text * text, const char * string) {
    if (string == NULL) {
        text_add(text, "null");
        return;
    }
    text_add(text, "\"");
    while (*string) {
        uint32_t  code = 0;
        const int n    = clean_utf8(string, &code);
        if (n == 0) {
            text_add(text, "\\ufffd");
        } else if (code == '"' || code == '\\') {
            text_add(text, "\\%c", (char) code);
        } else if (!clean_is_harmless(code)) {
            text_add(text, "\\u%04x", (unsigned) code); // none is behind U+FFFF
        } else {
            text_add(text, "%.*s", n, string);
        }
        string += n ? n : 1;
    }
    text_add(text, "\"");
}

void text_add_json_member(struct text * text, const char * before, const char * string) {
    text_add(text, "%s", before);
    text_add_json_string(text, string);
}

char * text_room(struct text * text, size_t n) {
    return make_room(text, n) ? text->data + text->length : NULL;
}

void text_take(struct text * text, size_t n) {
    text->length += n;
    text->data[text->length] = '\0';
}

void text_clear(struct text * text) {
    text->length = 0;
    text->failed = false;
    if (text->data != NULL) {
        text->data[0] = '\0';
    }
}

void text_free(struct text * text) {
    free(text->data);
    *text = (struct text) { 0 };
}
