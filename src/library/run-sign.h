// The sign that a run leaves: `llama-expert-tracer run` starts a program and is gone, and whether anything of llama.cpp
// was evaluated, by the program or by what it starts, is known at its end alone. A file without a name, which the
// program has open and its children find through /proc, has a byte in it once any of them has evaluated something.

#pragma once

// When the library is loaded.
void run_sign_begin(void);

// Something is evaluated in this process.
void run_sign_leave(void);

// When a process ends: the one that was started says so where no sign was left in all of the run. Async-signal-safe.
void run_sign_end(void);
