// Keeps the plan of a graph's taps from its building until what landed is read, which may be several graphs later.

#include "engine/capture/tap-plan.h"

#include <stdlib.h>

struct tap_plan * tap_plan_use(struct tap_plan * plan) {
    plan->n_users++;
    return plan;
}

void tap_plan_release(struct tap_plan * plan) {
    if (plan && --plan->n_users == 0) {
        free(plan->points);
        free(plan->layers);
        free(plan);
    }
}

struct tap_point * tap_plan_find(const struct tap_plan * plan, const struct layer * layer) {
    for (int32_t i = plan->n_layers - 1; i >= 0; i--) {
        if (plan->points[i].layer == layer) {
            return &plan->points[i];
        }
    }
    return NULL;
}

struct tap_point * tap_plan_add(struct tap_plan * plan) {
    if (plan->n_layers == plan->n_layers_max) {
        const size_t           n      = (size_t) plan->n_layers_max + 64;
        struct tap_point     * points = realloc(plan->points, n * sizeof(*points));
        plan->points = points ? points : plan->points;
        struct routing_layer * layers = realloc(plan->layers, n * sizeof(*layers));
        plan->layers = layers ? layers : plan->layers;
        if (points == NULL || layers == NULL) {
            return NULL;
        }
        plan->n_layers_max = (int32_t) n;
    }
    plan->layers[plan->n_layers] = (struct routing_layer) { 0 };
    plan->points[plan->n_layers] = (struct tap_point) { .strip = -1 };
    return &plan->points[plan->n_layers++];
}

void tap_plan_drop_empty(struct tap_plan * plan) {
    int32_t n = 0;
    for (int32_t i = 0; i < plan->n_layers; i++) {
        if (plan->layers[i].n_tokens > 0) {
            plan->layers[n] = plan->layers[i];
            plan->points[n] = plan->points[i];
            n++;
        }
    }
    plan->n_layers = n;
}
