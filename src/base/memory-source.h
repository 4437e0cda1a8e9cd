// Where memory comes from: the heap, or a place that others may look into.

#pragma once

#include <stddef.h>

struct memory_source {
    void * (* take)(void * self, size_t size);                // zeroed, in cache lines of its own; NULL: there is none
    void   (* give)(void * self, void * memory, size_t size); // back
    void    * self;
};
