#include "text.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static bool make_room(struct text * text, size_t n) {
    if (text->length + n + 1 <= text->room) {
        return true;
    }
    const size_t room = (text->length + n + 1) * 2 + 256;
    char       * data = realloc(text->data, room);
    if (!data) {
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

// Length of the UTF-8 character at `s`, 0 where there is none.
static int utf8_length(const unsigned char * s) {
    static const struct { unsigned char mask, lead; uint32_t least; } kinds[] = {
        { 0x80, 0x00, 0x0 }, { 0xe0, 0xc0, 0x80 }, { 0xf0, 0xe0, 0x800 }, { 0xf8, 0xf0, 0x10000 },
    };
    for (int n = 1; n <= 4; n++) {
        if ((s[0] & kinds[n - 1].mask) != kinds[n - 1].lead) {
            continue;
        }
        uint32_t code = s[0] & (unsigned char) ~kinds[n - 1].mask;
        for (int i = 1; i < n; i++) {
            if ((s[i] & 0xc0) != 0x80) {
                return 0;
            }
            code = code << 6 | (s[i] & 0x3f);
        }
        return code < kinds[n - 1].least || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff) ? 0 : n;
    }
    return 0;
}

void text_add_json_string(struct text * text, const char * string) {
    if (!string) {
        text_add(text, "null");
        return;
    }
    text_add(text, "\"");
    for (const unsigned char * s = (const unsigned char *) string; *s; ) {
        const int n = utf8_length(s);
        if (n == 0) {
            text_add(text, "\\ufffd");
        } else if (*s == '"' || *s == '\\') {
            text_add(text, "\\%c", *s);
        } else if (*s < 0x20) {
            text_add(text, "\\u%04x", *s);
        } else {
            text_add(text, "%.*s", n, (const char *) s);
        }
        s += n ? n : 1;
    }
    text_add(text, "\"");
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
    if (text->data) {
        text->data[0] = '\0';
    }
}

void text_free(struct text * text) {
    free(text->data);
    *text = (struct text) { 0 };
}
