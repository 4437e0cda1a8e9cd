// Whether a source tree's headers declare what the tracer stands between and calls as the tracer knows it.

#pragma once

#include "tool/error.h"

#include <stdbool.h>

// Reads include/ and ggml/include/ of the tree. False where a struct or a function is declared otherwise, and which:
// nothing may be built into such a tree. What is not declared at all is no difference: releases have more and less.
bool tree_interface_is_known(const char * path, struct error * error);
