// What expert_tracer_attach() answers whoever has brought the library into a process (src/library/attach.c).

#pragma once

enum attach_result {
    ATTACH_DONE,      // it is going to be traced, unless something comes in the way
    ATTACH_ALREADY,   // it is traced
    ATTACH_NO_ENGINE, // nothing in the process calls llama.cpp through the dynamic linker
    ATTACH_BUSY,      // what began when the library was attached is not over yet
    ATTACH_HIDDEN,    // its memory cannot be shown, so that nobody could steer it
    ATTACH_NO_MEMORY,
};
