// Where an answer goes besides the terminal: JSON to the standard output, and a page to a file.

#include "tool/document.h"

#include "tool/error.h"
#include "tool/json-output.h"
#include "tool/output-file.h"
#include "tool/page.h"

#include <stdio.h>
#include <string.h>

#define DIGITS 9

static bool is_page_on_stdout(const struct document_output * output) {
    return output->page != NULL && strcmp(output->page, "-") == 0;
}

int document_check(const struct command * command, const struct document_output * output) {
    struct error error;
    if (output->json && is_page_on_stdout(output)) {
        return command_usage_error(command, "--json and --html - both want the standard output");
    }
    if (output->page != NULL && !page_possible(&error)) {
        error_say("--html: %s", error.text);
        return STATUS_FAILED;
    }
    if (output->page != NULL && !output_file_check(output->page, FILE_KIND_PAGE, output->force, &error)) {
        error_say("%s", error.text);
        return STATUS_FAILED;
    }
    return STATUS_OK;
}

bool document_is_wanted(const struct document_output * output) {
    return output->json || output->page != NULL;
}

bool document_leaves_terminal(const struct document_output * output) {
    return !output->json && !is_page_on_stdout(output);
}

int document_put(const struct document_output * output, json_t * document) {
    struct error error;
    bool         ok = true;
    if (output->json) {
        json_output_put(stdout, document, JSON_INDENT(1) | JSON_REAL_PRECISION(DIGITS));
    }
    if (output->page != NULL && !page_write(output->page, output->force, document, &error)) {
        error_say("%s", error.text);
        ok = false;
    }
    json_decref(document);
    return ok ? STATUS_OK : STATUS_FAILED;
}
