// Text from outside, which may hold anything: names of models and files, values of variables, strings of files. What a
// terminal would take for a command, and what makes text look like other text, must not get to where people read.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CLEAN_MARK      "\xef\xbf\xbd" // U+FFFD, what stands for a character that is not shown
#define CLEAN_MARK_SIZE 3

// The number of the UTF-8 character that a text begins with. Returns its bytes, 0: there is none, or the text is at
// its end.
int clean_utf8(const char * text, uint32_t * code);

// Whether a character does nothing but be seen: no control character (C0, DEL, C1), no line or paragraph separator,
// nothing that turns the direction of what follows (bidi).
bool clean_is_harmless(uint32_t code);

// The size of what a text begins with, and is to be shown or hidden together: a character, or a byte that belongs to
// none. 0 at the end.
int clean_next(const char * text, bool * harmless);

// Copies what is harmless, and CLEAN_MARK for all else, as far as there is room. `to` ends with a zero byte.
void clean_copy(char * to, size_t room, const char * from);

// Each byte of what is not harmless becomes a '?'. Returns the text.
char * clean_in_place(char * text);
