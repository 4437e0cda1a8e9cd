// Whatever bytes there are as requests to a running tracer: a line is one, its first byte says what comes with it, and
// words are between spaces. Paths are left out: whoever may ask may also write there.

#include "fuzz.h"

#include "tracer/control.h"
#include "tracer/listener.h"
#include "tracer/tracer.h"

#include <jansson.h>

static void ignore(enum log_level level, const char * lines) {
    (void) level;
    (void) lines;
}

static const struct routing_model  model     = { .key = "a model", .n_layer = 1, .phases_known = true };
static const int32_t               experts[] = { 1, 0 };
static const struct routing_layer  layer     = { .n_expert = 2, .n_used = 1, .n_tokens = 2, .experts = experts };
static const struct routing_ubatch ubatch    = { .n_tokens = 2, .n_layers = 1, .layers = &layer, .is_moe = true };
static const struct routing_decode decode    = { .n_prompt = 1, .n_generation = 1 };

static char folder[64];

static void leave_nothing(void) {
    rmdir(folder);
}

static const char * make_folder(void) {
    if (*folder == '\0') {
        snprintf(folder, sizeof(folder), "/dev/shm/fuzz-live-XXXXXX");
        EXPECT(mkdtemp(folder) != NULL);
        atexit(leave_nothing);
    }
    return folder;
}

static void split(struct live_request * request, char * line) {
    char * left = NULL;
    for (char * word = strtok_r(line, " ", &left); word != NULL; word = strtok_r(NULL, " ", &left)) {
        if (request->n_words < LIVE_WORDS_MAX) {
            request->words[request->n_words++] = word;
        }
    }
}

static void expect_json(const struct text * answer) {
    EXPECT(!answer->failed && answer->data != NULL);
    json_t * json = json_loads(answer->data, 0, NULL);
    EXPECT(json_is_object(json));
    json_decref(json);
}

static void ask(struct expert_tracer * tracer, char * line) {
    struct live_request request = { .fd = -1, .is_first = true };
    struct text         answer  = { 0 };
    if (*line % 2 != 0) {
        request.fd = memfd_create("given", MFD_CLOEXEC);
        EXPECT(request.fd >= 0);
    }
    split(&request, line + 1);
    if (request.n_words > 0 && live_request_value(&request, "path") == NULL) {
        request.is_late = !control_answer(tracer, &request, &answer);
        if (request.is_late) {
            request.is_first = false;
            text_clear(&answer);
            EXPECT(control_answer(tracer, &request, &answer));
        }
        expect_json(&answer);
    }
    if (request.fd >= 0) {
        close(request.fd);
    }
    text_free(&answer);
}

int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    const struct tracer_setup setup  = { ignore, ignore, "fuzz-run", true };
    struct config             config = { .live = strdup(make_folder()) };
    struct expert_tracer    * tracer = tracer_new(&config, &setup);
    char                    * lines  = malloc(size + 1);
    char                    * left   = NULL;
    EXPECT(tracer != NULL && lines != NULL);
    memcpy(lines, data, size);
    lines[size] = '\0';
    void * context = tracer_sink.context_open(tracer, &model, "a context");
    for (char * line = strtok_r(lines, "\n", &left); line != NULL; line = strtok_r(NULL, "\n", &left)) {
        ask(tracer, line);
        tracer_sink.ubatch(context, &ubatch);
        tracer_sink.decode(context, &decode);
    }
    tracer_sink.context_close(context);
    tracer_free(tracer);
    free(lines);
    return 0;
}
