// What a tracer shows to others while the program runs: its live memory and the socket that it is handed out through.

#pragma once

#include "tracer/tracer-state.h"

// Where the configuration asks for it, before anybody counts: makes the memory. What cannot be shown is remarked on
// once, and traced all the same.
void showing_prepare(struct expert_tracer * tracer);

// Lets others in, as soon as what they ask for is counted.
void showing_begin(struct expert_tracer * tracer);

// In the child of a fork: closes what is the parent's.
void showing_abandon(struct expert_tracer * tracer);

// Nobody can ask for anything any more. The memory stays.
void showing_end(struct expert_tracer * tracer);
