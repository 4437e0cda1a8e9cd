// Scripts: files that the kernel, or a shell, gives to an interpreter.

#pragma once

#include <stdbool.h>
#include <stddef.h>

// The interpreter of a "#!" line; "/bin/sh" for other text, as shells and execvp() do. False: not a script.
bool script_interpreter(const void * bytes, size_t size, char * interpreter, size_t n_interpreter);

// Whether it is a shell script and a line of it has the program as a command, by its name or by a path: the word where
// one begins.
bool script_has_command(const void * bytes, size_t size, const char * program);

// The program that a shell script's only `exec` hands over to, where it is written out. False: not obvious.
bool script_exec_target(const void * bytes, size_t size, char * target, size_t n_target);
