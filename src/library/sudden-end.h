// Programs that end by _exit(), as llama-completion does in its handler of Ctrl-C: no destructor and no atexit()
// function runs. What was counted and recorded is written all the same, by threads of ours, if that takes no longer
// than half a second. Not where we are built into llama.cpp.

#pragma once

// When the library is loaded, and in the child of a fork.
void sudden_end_watch(void);
