// Whatever bytes there are as a statistics file: what is taken is added to itself, written, and read again.

#include "fuzz.h"

#include "statistics/statistics-json.h"
#include "statistics/statistics.h"

int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    struct error        error;
    struct statistics * statistics = statistics_json_parse("input", (const char *) data, size, &error);
    struct statistics * again      = statistics
                                     ? statistics_json_parse("input", (const char *) data, size, &error) : NULL;
    if (statistics == NULL) {
        return 0;
    }
    EXPECT(again != NULL);
    json_t * json = statistics_json_of(statistics);
    char   * text = json_dumps(json, 0);
    EXPECT(text != NULL);
    struct statistics * written = statistics_json_parse("written", text, strlen(text), &error);
    EXPECT(written != NULL);
    json_t * rewritten = statistics_json_of(written);
    EXPECT(json_equal(json, rewritten));
    statistics_add(statistics, again, &error); // which may be told to be of another model, or too large
    json_decref(rewritten);
    json_decref(json);
    free(text);
    statistics_free(written);
    statistics_free(again);
    statistics_free(statistics);
    return 0;
}
