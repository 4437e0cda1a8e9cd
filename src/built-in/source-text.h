// Source code as text: read whole, and without its comments.

#pragma once

#include "tool/error.h"

// The file's text, allocated. NULL, and why, where it cannot be read or is no text.
char * source_text_read(const char * path, struct error * error);

// Blanks out comments, and keeps every other byte where it is. `line_comment` is "//" or "#".
void source_text_blank_comments(char * code, const char * line_comment);
