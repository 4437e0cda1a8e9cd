// What of a tracer's work is on: for the engine, which reads no more than somebody wants, and for those who look at its
// live memory.

#pragma once

#include "tracer/tracer-state.h"

// With the tracer's mutex, or before anybody else knows of the tracer.
void switches_note(struct expert_tracer * tracer);
