// Which model an answer is about, as traces and statistics name it.

#pragma once

// Strings are those of the file that was read and live as long as it is open. NULL: not known.
struct answer_model {
    const char * name;
    const char * architecture;
    const char * file;
    const char * engine;
};
