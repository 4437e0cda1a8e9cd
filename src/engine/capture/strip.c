// Makes and frees a backend's strip, from the memory that device-memory.c takes.

#include "engine/capture/strip.h"

#include "engine/capture/device-memory.h"

#define STRIP_TYPE_I32    26
#define DEVICE_TYPE_CPU    0
#define DEVICE_TYPE_LAST   3 // of one device; those behind it are made of several
#define STRIP_CONTEXT   4096 // bytes for the description of one tensor

bool strip_init(struct strip * strip, const struct real * real, void * backend) {
    void * const type   = real->ggml_backend_get_default_buffer_type(backend);
    void * const device = real->ggml_backend_get_device(backend);
    const size_t needed = real->ggml_backend_buft_get_alignment(type);
    const int    kind   = device ? real->ggml_backend_dev_type(device) : DEVICE_TYPE_LAST;
    *strip = (struct strip) {
        .backend   = backend,
        .is_cpu    = kind == DEVICE_TYPE_CPU && real->ggml_backend_buft_is_host(type),
        .alignment = needed > sizeof(int32_t) ? needed : sizeof(int32_t), // a power of two
    };
    return kind <= DEVICE_TYPE_LAST;
}

void strip_free(struct strip * strip, const struct real * real) {
    device_memory_give_back(strip->buffer);
    if (strip->context) {
        real->ggml_free(strip->context);
    }
    strip->buffer  = NULL;
    strip->context = NULL;
    strip->size    = 0;
}

bool strip_make(struct strip * strip, const struct real * real, size_t size) {
    strip_free(strip, real);
    const struct ggml_init_params params = { STRIP_CONTEXT, NULL, true };
    void * const type = real->ggml_backend_get_default_buffer_type(strip->backend);
    strip->buffer  = device_memory_take(real, type, real->ggml_backend_get_device(strip->backend), size);
    strip->context = strip->buffer ? real->ggml_init(params) : NULL;
    if (strip->context == NULL) {
        strip_free(strip, real);
        return false;
    }
    strip->base  = real->ggml_backend_buffer_get_base(strip->buffer);
    strip->size  = device_memory_round(size);
    strip->whole = real->ggml_new_tensor_1d(strip->context, STRIP_TYPE_I32, (int64_t) (strip->size / sizeof(int32_t)));
    real->ggml_set_name(strip->whole, "expert_trace");
    real->ggml_backend_tensor_alloc(strip->buffer, strip->whole, strip->base);
    return true;
}
