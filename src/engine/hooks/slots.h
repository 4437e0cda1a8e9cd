// The slots through which loaded objects call functions of others. A library that is preloaded stands in front of the
// engine by the order in which the dynamic linker looks; one that came later puts its functions into the slots.

#pragma once

#include <stdbool.h>

// Whether the dynamic linker finds ours first anyway, as where we are preloaded.
bool slots_are_needless(void);

// Puts ours into all slots of all objects that are loaded, and returns whether the engine computes through any of them.
// Again, it takes those of objects that were loaded since: that costs little where none were. Not thread-safe.
bool slots_take(void);

// An address in the object that computes graphs, by which its engine is found (real.h).
const void * slots_engine(void);

// Whether any of them is of a function that evaluates a batch.
bool slots_see_calls(void);

// Puts back what was there.
void slots_give_back(void);
