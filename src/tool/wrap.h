// Lines of running text: what --help and verdicts are printed with, so that no word is broken at a line's end.

#pragma once

#include <stddef.h>
#include <stdio.h>

// Characters of the first n bytes, as a terminal shows them.
int wrap_width(const char * text, size_t n);

// Prints `length` bytes of text, its words one blank apart, in lines that begin at column `indent` and end before
// `width`; the first one goes on at `column`. A word that is wider has a line of its own. Ends in a newline.
void wrap_print(FILE * out, const char * text, size_t length, int width, int indent, int column);
