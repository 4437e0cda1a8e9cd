// Where an answer goes besides the terminal: JSON to the standard output, and a page to a file.

#pragma once

#include "tool/options.h"

#include <jansson.h>

struct document_output {
    bool         json;
    const char * page;  // NULL: none, "-": the standard output
    bool         force; // the page replaces whatever is there
};

// Rows of a command's table of options, whose struct has a document_output as `member`.
#define DOCUMENT_OPTIONS(member)                                                   \
    { 0, "json", OPTION_ON, OPTION_AT(member.json), .help = "all of it as JSON" }, \
    { 0, "html", OPTION_FILE, OPTION_AT(member.page), .value = "PAGE",             \
      .help = "write a page with pictures, one file that needs no network" },      \
    { 0, "force", OPTION_ON, OPTION_AT(member.force),                              \
      .help = "the page replaces whatever is there, not only an earlier page" }

// STATUS_OK, or the exit status where the options do not go together, or no page can be made.
int document_check(const struct command * command, const struct document_output * output);

// Whether a document is needed at all, and whether there is something for the terminal to tell beside it.
bool document_is_wanted(const struct document_output * output);
bool document_leaves_terminal(const struct document_output * output);

// Writes what is wanted. Takes the reference. STATUS_OK, or the exit status after it was told why.
int document_put(const struct document_output * output, json_t * document);
