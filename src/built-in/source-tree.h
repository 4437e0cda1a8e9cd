// A source tree of llama.cpp, and the place of the tracer in it: two files in src/, and a block in src/CMakeLists.txt
// behind the call of add_library() that makes libllama.

#pragma once

#include "tool/error.h"

#include <stdbool.h>

struct source_tree;

enum source_tree_state {
    SOURCE_TREE_WITHOUT, // the tracer is not in it
    SOURCE_TREE_WITH,    // it is, as this command would put it there
    SOURCE_TREE_OTHER,   // it is, in another version
};

// Reads the tree, and what is to be put into it from `parts`, a folder. Nothing is changed. NULL where it is no tree
// of llama.cpp, or one in which the tracer would not find what it needs: the error says which place is missing, and
// why it is needed. Without parts (NULL) no place is looked for, and the tracer can be removed, not more.
struct source_tree * source_tree_open(const char * path, const char * parts, struct error * error);
void                 source_tree_free(struct source_tree * tree); // NULL is fine

enum source_tree_state source_tree_state(const struct source_tree * tree);

// Each of them changes everything, or nothing and says why.
bool source_tree_integrate(struct source_tree * tree, struct error * error);
bool source_tree_remove   (struct source_tree * tree, struct error * error);

// What source_tree_integrate() would do, to standard output, in the form that patch(1) takes: nothing where the tracer
// is in the tree.
void source_tree_print_diff(const struct source_tree * tree);
