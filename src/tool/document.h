// Where an answer goes besides the terminal: JSON to the standard output, and a page to a file.

#pragma once

#include "tool/command.h"

#include <jansson.h>
#include <stdbool.h>

struct document_output {
    bool         json;
    const char * page;  // NULL: none, "-": the standard output
    bool         force; // the page replaces whatever is there
};

// STATUS_OK, or the exit status where the options do not go together, or no page can be made.
int document_check(const struct command * command, const struct document_output * output);

// Whether a document is needed at all, and whether there is something for the terminal to tell beside it.
bool document_is_wanted(const struct document_output * output);
bool document_leaves_terminal(const struct document_output * output);

// Writes what is wanted. Takes the reference. STATUS_OK, or the exit status after it was told why.
int document_put(const struct document_output * output, json_t * document);
