// Files that are made whole at once: written aside and renamed. They carry a lock (flock) as long as their owner
// lives.

#pragma once

#include <stdbool.h>
#include <stddef.h>

#define ASIDE_SUFFIX_SIZE 11 // ".XXXXXX.tmp" behind the name of the file that it is to become

// Puts a file in place. `replace`: over what is there; otherwise -EEXIST where something is. `durable`: on the disk
// first, so that the machine may fail at any time; that waits as long as the disk takes. Returns the file's
// descriptor, which carries the lock and may be written to, or -errno.
int aside_put(int directory, const char * name, const void * data, size_t size, bool replace, bool durable);

// Makes an empty file beside the one of that name, which carries the lock as long as it is open. Returns its
// descriptor, and its name (to be freed), or -errno.
int aside_make(int directory, const char * name, char ** aside);

// Waits until a file is on the disk, where the file system has one to wait for. Returns 0, or -errno.
int aside_sync(int fd);

// Gives a file that was made aside the name that it is for, `replace`: over what is there. Returns 0, or -errno.
int aside_place(int directory, const char * aside, const char * name, bool replace);

// Gives a file another name of the same folder. Returns 0, or -errno. -EEXIST: something is there.
int aside_rename(int directory, const char * from, const char * to);

// Whether the end of a name is what a file that is written aside has behind its own.
bool aside_is_suffix(const char * suffix);

// Locks a file. False: its owner lives. Where the file system knows no locks they protect nothing, and are no reason
// to fail: true. `strictly`: false then.
bool aside_lock(int fd, bool strictly);

// Whether two descriptors are of one file, or a descriptor and a name of a folder (no link is followed).
bool aside_is_same(int fd, int other_fd);
bool aside_is_at  (int fd, int directory, const char * name);
