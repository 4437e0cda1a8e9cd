// How the library speaks: the one function that every room gets its voice from.

#pragma once

#define LOG_PREFIX "[EXPERT-TRACE] "

enum log_level {
    LOG_INFO,
    LOG_WARNING,
    LOG_ERROR,
    LOG_BULK,  // as LOG_INFO, but so many lines that a logger's own work on each of them would tell
};

// Says whole lines, each ended by a newline. Thread-safe.
typedef void (*log_fn)(enum log_level level, const char * lines);

// Formats one line, puts LOG_PREFIX before and a newline behind it, and says it. It is one line whatever the arguments
// hold: see clean.h.
void log_line(log_fn say, enum log_level level, const char * format, ...) __attribute__((format(printf, 3, 4)));
