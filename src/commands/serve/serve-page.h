// The live page, and the scripts and styles that it is made of.

#pragma once

#include "serve/serve-http.h"

// What is at a path; a status of 0: it is none of the page's. At "/" there is a text for those who want no HTML.
struct serve_response serve_page_answer(const struct serve_request * request);
