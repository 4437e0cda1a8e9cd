// The folder where running tracers are found: chosen by the environment, and used only where nobody else can write to
// it (docs/live-format.md).

#pragma once

#include <stdbool.h>
#include <sys/types.h>

#define LIVE_FOLDER_VARIABLE "LLAMA_EXPERT_TRACE_LIVE"

// Whether the variable's value chooses a folder: neither NULL nor "", "0" or "1".
bool live_folder_is_named(const char * setting);

// The folders that a user's processes may be found in, to be freed; NULL: there is none, or memory runs out.
char * live_folder_runtime_path(const char * runtime); // of $XDG_RUNTIME_DIR's value
char * live_folder_common_path (uid_t user);           // in /tmp

// Opens the folder that a process with this value of LLAMA_EXPERT_TRACE_LIVE uses. `make`: for this process's own
// files, so that it has to be writable; unless it was named it is made where it is missing. Returns a descriptor, or
// -errno; *path is the folder, or the one that was tried last, to be freed, NULL where memory ran out.
int live_folder_open(const char * setting, bool make, char ** path);

// Opens one folder and checks that it is of this user or root, and that nobody else may write to it. `follow`: it may
// be a symbolic link. Returns a descriptor, or -errno.
int live_folder_open_path(const char * path, uid_t user, bool follow);

// Why a folder could not be used, in words that follow its name and a colon: of live_folder_open() and its like.
const char * live_folder_explain(int error);
