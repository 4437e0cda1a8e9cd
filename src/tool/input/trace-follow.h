// Follows a routing trace that a program still writes, and its next parts, as `tail -F` does: what is there is read,
// what comes is waited for, and a file that is replaced is begun anew. What happens on the way is said on stderr.
//
//     struct trace_follow * follow = trace_follow_new(path);
//     for (enum follow_news news; follow_news_is_more(news = trace_follow_next(follow, 0));) {
//         … read on in trace_follow_trace(follow), or in all parts together …
//     }
//     trace_follow_free(follow);

#pragma once

#include "tool/command.h"
#include "tool/error.h"
#include "trace/read/trace-reader.h"

enum follow_news {
    FOLLOW_GREW,    // there is more in the part that is open
    FOLLOW_PART,    // the next part is open, and the one before closed
    FOLLOW_ANOTHER, // a trace is open, the first or another one than before
    FOLLOW_ENDED,   // no more comes: the trace is at its end, or its program is gone, which was said
    FOLLOW_LEFT,    // nobody reads the standard output any more
    FOLLOW_FAILED,  // it is no trace, or cannot be read, which was said
};

static inline bool follow_news_is_more(enum follow_news news) {
    return news <= FOLLOW_ANOTHER;
}

struct trace_follow;

// STATUS_OK, or the exit status where a file of that name cannot be followed.
int trace_follow_check(const struct command * command, const char * path);

struct trace_follow * trace_follow_new (const char * path); // as the user gave it, not "-"
void                  trace_follow_free(struct trace_follow * follow);

// Waits for news. That a trace grew is no news within `pause` milliseconds, unless it has ended.
enum follow_news trace_follow_next(struct trace_follow * follow, int64_t pause);

// The last part, read as far as it was there. It is closed when the next news come.
const struct trace * trace_follow_trace(const struct trace_follow * follow);

// Whether more may come. What was read to the end of a part that is followed by another is not.
bool trace_follow_is_over(const struct trace_follow * follow);

// Opens all parts that there are as one trace, from the one that was followed first. What it has is no news any more.
// NULL, and in `error` why, where that cannot be done.
struct trace * trace_follow_open(struct trace_follow * follow, struct error * error);
