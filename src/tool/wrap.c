// Breaks running text at blanks, as wide as it is said to be.

#include "tool/wrap.h"

#include <stdbool.h>
#include <string.h>

int wrap_width(const char * text, size_t n) {
    int width = 0;
    for (size_t i = 0; i < n; i++) {
        width += ((unsigned char) text[i] & 0xC0) != 0x80;
    }
    return width;
}

void wrap_print(FILE * out, const char * text, size_t length, int width, int indent, int column) {
    const char * end   = text + length;
    bool         first = true;
    for (text += strspn(text, " \n"); text < end; text += strspn(text, " \n")) {
        const size_t left  = (size_t) (end - text);
        const size_t word  = strcspn(text, " \n");
        const size_t n     = word < left ? word : left;
        const int    wide  = wrap_width(text, n);
        if (!first && column + 1 + wide > width) {
            fprintf(out, "\n%*s", indent, "");
            column = indent;
        } else if (!first) {
            fputc(' ', out);
            column++;
        }
        fwrite(text, 1, n, out);
        column += wide;
        text   += n;
        first   = false;
    }
    fputc('\n', out);
}
