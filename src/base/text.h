// A growing piece of text. Where memory runs out it stops growing and says so.

#pragma once

#include <stdbool.h>
#include <stddef.h>

// Zeroed: empty.
struct text {
    char * data;   // zero-terminated, NULL while empty
    size_t length;
    size_t room;
    bool   failed; // something is missing
};

void text_add(struct text * text, const char * format, ...) __attribute__((format(printf, 2, 3)));

// Adds a line of the log: LOG_PREFIX before, a newline behind it. It is one line whatever the arguments hold: see
// clean.h.
void text_add_line(struct text * text, const char * format, ...) __attribute__((format(printf, 2, 3)));

// Adds a JSON string with its quotes, or null. Bytes that are not UTF-8 become U+FFFD; what is not harmless (clean.h)
// is written as \uXXXX, so that who looks at the file sees text and who parses it gets what it was.
void text_add_json_string(struct text * text, const char * string);

// The same behind `before`, which is added as it is: a member's name mostly.
void text_add_json_member(struct text * text, const char * before, const char * string);

// For what is not formatted: room for n bytes, NULL where memory runs out. Then, how many of them were filled.
char * text_room(struct text * text, size_t n);
void   text_take(struct text * text, size_t n);

// Begins anew in the memory that is there.
void text_clear(struct text * text);
void text_free (struct text * text);
