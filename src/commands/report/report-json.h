// The answer of `report` for machines and the page. docs/json.md has its keys.

#pragma once

#include "answers/report-answer.h"

#include <jansson.h>

json_t * report_json(const struct report_answer * report); // a new reference
