// JSON on a stream, with control characters escaped that a terminal would obey.

#include "tool/json-output.h"

#include "base/clean.h"

#include <inttypes.h>

// Newlines are the layout's: those of strings are escaped already. A character is never in two pieces.
static int put_piece(const char * piece, size_t size, void * data) {
    FILE * out = data;
    for (const char * end = piece + size, * at = piece; at < end; ) {
        uint32_t  code = 0;
        const int n    = clean_utf8(at, &code);
        if (n > 0 && code != '\n' && !clean_is_harmless(code)) {
            fprintf(out, "\\u%04" PRIx32, code);
        } else {
            fwrite(at, 1, n > 0 ? (size_t) n : 1, out);
        }
        at += n > 0 ? n : 1;
    }
    return ferror(out) ? -1 : 0;
}

bool json_output_put(FILE * out, const json_t * json, size_t flags) {
    return json_dump_callback(json, put_piece, out, flags) == 0 && fputc('\n', out) != EOF;
}
