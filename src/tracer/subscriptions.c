// Delivers a layer's routing to who has subscribed to it through the API, in the public header's form.

#include "tracer/subscriptions.h"

#include <errno.h>

void subscriptions_deliver(const struct tracer_context * context, const struct routing_layer * layer,
                           const struct routing_ubatch * ubatch) {
    struct expert_tracer * tracer = context->model->tracer;
    if (atomic_load_explicit(&tracer->n_subscriptions, memory_order_relaxed) == 0) {
        return;
    }
    const bool tokens_known = ubatch->tokens && ubatch->rows_known;
    const struct expert_tracer_event event = {
        .size     = sizeof(event),
        .model    = context->model->about.key,
        .context  = context->key,
        .layer    = layer->layer,
        .n_expert = layer->n_expert,
        .n_used   = layer->n_used,
        .n_tokens = layer->n_tokens,
        .experts  = layer->experts,
        .warmup   = ubatch->fate == ROUTING_WARMUP,
        .n_ubatch_tokens = (int32_t) ubatch->n_tokens,
        .tokens   = tokens_known ? ubatch->tokens : NULL,
        .rows     = tokens_known ? layer->rows    : NULL,
        .weights  = layer->gates,
        .ubatch   = ubatch->number,
        .batch    = ubatch->batch,
        .time     = ubatch->time,
    };
    pthread_mutex_lock(&tracer->subscription_mutex);
    for (int i = 0; i < SUBSCRIPTIONS_MAX; i++) {
        if (tracer->subscriptions[i].fn) {
            tracer->subscriptions[i].fn(&event, tracer->subscriptions[i].user_data);
        }
    }
    pthread_mutex_unlock(&tracer->subscription_mutex);
}

int expert_tracer_subscribe(struct expert_tracer * tracer, expert_tracer_routing_fn fn, void * user_data) {
    if (tracer == NULL || fn == NULL) {
        return -EINVAL;
    }
    int subscription = -ENOMEM;
    pthread_mutex_lock(&tracer->subscription_mutex);
    for (int i = 0; i < SUBSCRIPTIONS_MAX && subscription < 0; i++) {
        if (tracer->subscriptions[i].fn == NULL) {
            tracer->subscriptions[i] = (struct subscription) { fn, user_data };
            atomic_fetch_add(&tracer->n_subscriptions, 1);
            subscription = i + 1;
        }
    }
    pthread_mutex_unlock(&tracer->subscription_mutex);
    return subscription;
}

void expert_tracer_unsubscribe(struct expert_tracer * tracer, int subscription) {
    if (tracer == NULL || subscription < 1 || subscription > SUBSCRIPTIONS_MAX) {
        return;
    }
    pthread_mutex_lock(&tracer->subscription_mutex);
    if (tracer->subscriptions[subscription - 1].fn) {
        tracer->subscriptions[subscription - 1].fn = NULL;
        atomic_fetch_sub(&tracer->n_subscriptions, 1);
    }
    pthread_mutex_unlock(&tracer->subscription_mutex);
}
