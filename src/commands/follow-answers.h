// What `report` and `cache` do with --follow: the answer anew whenever the trace has grown. On a terminal each takes
// the place of the one before, as far as it fits on the screen; elsewhere they follow each other with an empty line
// between, JSON a document after the other.

#pragma once

#include "tool/document.h"
#include "tool/error.h"
#include "tool/input/trace-filter.h"
#include "tool/terminal.h"
#include "trace/read/trace-reader.h"

struct follow_answers {
    const char                   * file;
    const struct document_output * output;
    enum terminal_color            color;
    const struct trace_filter    * filter;

    // Answers what is asked of a trace, and writes the answer: text to the terminal, where there is one (not NULL), and
    // what else `output` has. *written is the exit status of that, *lost are ubatches that do not check. False where
    // there is no answer, as `error` tells with the file's name: there may be one when more is there.
    bool (* answer)(const void * self, const struct trace * trace, const struct terminal * terminal, int * written,
                    uint64_t * lost, struct error * error);
    const void * self;
};

// A row of a command's table of options, whose struct has a bool as `member`.
#define FOLLOW_OPTION(member)                                \
    { 'f', "follow", OPTION_ON, OPTION_AT(member),           \
      .help = "the answer anew as a running program adds to the trace, of all parts of a rotated one, until it ends" }

// STATUS_OK, or the exit status where these do not go with --follow.
int follow_answers_check(const struct command * command, const char * file, const struct document_output * output);

// Returns the exit status.
int follow_answers(const struct follow_answers * wish);
