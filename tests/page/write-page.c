// Makes a page of a document, as the commands do: write-page DOCUMENT PAGE

#include "tool/page.h"

#include <stdio.h>

int main(int argc, char ** argv) {
    struct error error;
    json_t     * document = argc == 3 ? json_load_file(argv[1], 0, NULL) : NULL;
    if (document == NULL) {
        fputs("usage: write-page DOCUMENT PAGE\n", stderr);
        return STATUS_USAGE;
    }
    const bool ok = page_write(argv[2], false, document, &error);
    json_decref(document);
    if (!ok) {
        error_say("%s", error.text);
    }
    return ok ? STATUS_OK : STATUS_FAILED;
}
