// How a tracer listens to the routing.

#pragma once

#include "routing/routing.h"

// `self` is the tracer.
extern const struct routing_sink tracer_sink;
