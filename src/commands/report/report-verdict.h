// What the answer of `report` comes to, in a sentence.

#pragma once

#include "answers/report-answer.h"

char * report_verdict(const struct report_answer * report); // allocated
