// Files that another command of ours reads, known by how they begin: whoever gets the wrong one names the right
// command.

#pragma once

#include <stddef.h>

#define OTHER_FILE_HEAD 4096 // bytes that tell

enum other_file_reader { OTHER_THAN_TRACES, OTHER_THAN_STATISTICS };

// What it is and what reads it, to follow its name and a colon: "a routing trace: use `report` or `info`". NULL:
// nothing that we know, or what this reader reads. A constant.
const char * other_file(const void * head, size_t size, enum other_file_reader reader);
