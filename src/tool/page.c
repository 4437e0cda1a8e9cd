// A page with pictures: the parts of src/page, with the JSON of an answer in them.

#include "tool/page.h"

#include "page/page-parts.h"
#include "tool/output-file.h"

#include <string.h>

#define MARK_BEGIN "{{"
#define MARK_END   "}}"

// Digits of a number with a fraction: more than anyone sees in a picture.
#define DIGITS 6

bool page_possible(struct error * error) {
    return page_part("echarts.min.js").size > 0 ||
           error_set(error, "pages need the library that draws them, and this program was built without it: build it "
                            "again with `make`, "
                            "where npm is installed and can download (scripts/fetch-plotting.sh), or do with --json");
}

// A script ends at the first "</script", wherever it stands. In JSON a '<' is always part of a string.
static int put_json(const char * text, size_t size, void * data) {
    FILE * out = data;
    for (const char * less; (less = memchr(text, '<', size)) != NULL;) {
        const size_t before = (size_t) (less - text);
        fwrite(text, 1, before, out);
        fputs("\\u003c", out);
        text += before + 1;
        size -= before + 1;
    }
    fwrite(text, 1, size, out);
    return ferror(out) ? -1 : 0;
}

static void put_part(FILE * out, const char * name, size_t length, const json_t * document) {
    char key[32];
    snprintf(key, sizeof(key), "%.*s", (int) length, name);
    if (strcmp(key, "document") == 0) {
        json_dump_callback(document, put_json, out, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(DIGITS));
        return;
    }
    const struct page_part part = page_part(key);
    fwrite(part.text, 1, part.size, out);
}

// The template, and in place of each {{name}} the part of that name.
static void put_page(FILE * out, const json_t * document) {
    const char * rest = page_part("page.html").text;
    for (const char * mark; (mark = strstr(rest, MARK_BEGIN)) != NULL;) {
        const char * name = mark + strlen(MARK_BEGIN);
        const char * end  = strstr(name, MARK_END);
        fwrite(rest, 1, (size_t) (mark - rest), out);
        put_part(out, name, (size_t) (end - name), document);
        rest = end + strlen(MARK_END);
    }
    fputs(rest, out);
}

bool page_write(const char * path, bool force, json_t * document, struct error * error) {
    struct output_file file;
    if (!page_possible(error) || !output_file_open(&file, path, FILE_KIND_PAGE, force, error)) {
        return false;
    }
    put_page(file.out, document);
    return output_file_close(&file, error);
}
