// Model files that the engine opened before the library came, as far as they are mapped into memory.

#pragma once

#include "engine/upstream/real.h"

// Notes their headers down (opened-file.h). Reads files: takes its time.
void mapped_files_look(const struct real * real);
