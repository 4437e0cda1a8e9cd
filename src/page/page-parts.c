// The parts of the HTML page, as the build finds them in this folder, in the program.

#include "page/page-parts.h"

#include <string.h>

#define PAGE_PARTS(PART)                                                        \
    PART(page_html,        "page.html",        PAGE_FOLDER "/page.html"       ) \
    PART(page_css,         "page.css",         PAGE_FOLDER "/page.css"        ) \
    PART(dom_js,           "dom.js",           PAGE_FOLDER "/dom.js"          ) \
    PART(chart_js,         "chart.js",         PAGE_FOLDER "/chart.js"        ) \
    PART(heatmap_js,       "heatmap.js",       PAGE_FOLDER "/heatmap.js"      ) \
    PART(cache_js,         "cache.js",         PAGE_FOLDER "/cache.js"        ) \
    PART(report_js,        "report.js",        PAGE_FOLDER "/report.js"       ) \
    PART(compare_js,       "compare.js",       PAGE_FOLDER "/compare.js"      ) \
    PART(page_js,          "page.js",          PAGE_FOLDER "/page.js"         ) \
    PART(live_html,        "live.html",        PAGE_FOLDER "/live.html"       ) \
    PART(live_css,         "live.css",         PAGE_FOLDER "/live.css"        ) \
    PART(living_js,        "living.js",        PAGE_FOLDER "/living.js"       ) \
    PART(live_stream_js,   "live-stream.js",   PAGE_FOLDER "/live-stream.js"  ) \
    PART(live_rates_js,    "live-rates.js",    PAGE_FOLDER "/live-rates.js"   ) \
    PART(live_sections_js, "live-sections.js", PAGE_FOLDER "/live-sections.js") \
    PART(live_js,          "live.js",          PAGE_FOLDER "/live.js"         ) \
    PART(echarts,          "echarts.min.js",   PAGE_ECHARTS                   )

// The assembler copies the file; it is not C that a compiler would have to read.
#define PUT(symbol, name, path)                 \
    __asm__(".pushsection .rodata,\"a\"\n"      \
            ".global page_" #symbol "\n"        \
            ".global page_" #symbol "_end\n"    \
            "page_" #symbol ":\n"               \
            ".incbin \"" path "\"\n"            \
            "page_" #symbol "_end:\n"           \
            ".byte 0\n"                         \
            ".popsection\n");                   \
    extern const char page_##symbol[];          \
    extern const char page_##symbol##_end[];

#define ENTRY(symbol, name, path) { name, page_##symbol, page_##symbol##_end },

PAGE_PARTS(PUT)

struct page_part page_part(const char * name) {
    static const struct {
        const char * name;
        const char * begin;
        const char * end;
    } parts[] = { PAGE_PARTS(ENTRY) };
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (strcmp(parts[i].name, name) == 0) {
            return (struct page_part) { parts[i].begin, (size_t) (parts[i].end - parts[i].begin) };
        }
    }
    return (struct page_part) { "", 0 };
}
