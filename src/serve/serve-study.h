// Answers of other commands, such as `report --json`, of what `serve` has in memory. Each runs in a process of its own,
// that takes nothing from the others, and ends with its time.

#pragma once

#include "tool/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct serve_studies;

struct serve_studies * serve_studies_new (void);
void                   serve_studies_free(struct serve_studies * studies);

// Those that run end at once, and so does every later one.
void serve_studies_stop(struct serve_studies * studies);

enum serve_study_state {
    SERVE_STUDY_DONE,
    SERVE_STUDY_WRONG,  // the words are
    SERVE_STUDY_FAILED,
    SERVE_STUDY_BUSY,   // with others
};

// An open file without a name, -1: there can be none.
int serve_study_file(const char * name);

// Runs `words` (the command and its options, NULL behind the last) on a file that is open. *answer is its JSON, a new
// reference.
enum serve_study_state serve_study(struct serve_studies * studies, const char * const * words, int fd,
                                   json_t ** answer, struct error * error);
