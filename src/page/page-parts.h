// What the page is made of: the files of this folder and the library that draws, put into the program as they are.

#pragma once

#include <stddef.h>

struct page_part {
    const char * text; // ends in a zero, which `size` leaves out
    size_t       size;
};

// By the name of its file. Empty where there is none of that name, or the program was built without it.
struct page_part page_part(const char * name);
