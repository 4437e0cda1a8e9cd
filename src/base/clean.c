// Decodes UTF-8 and replaces what is not harmless to show.

#include "base/clean.h"

#include <string.h>

int clean_utf8(const char * text, uint32_t * code) {
    static const struct { unsigned char mask, lead; uint32_t least; } kinds[] = {
        { 0x80, 0x00, 0x0 }, { 0xe0, 0xc0, 0x80 }, { 0xf0, 0xe0, 0x800 }, { 0xf8, 0xf0, 0x10000 },
    };
    const unsigned char * s = (const unsigned char *) text;
    for (int n = 1; n <= 4 && *s != 0; n++) {
        if ((s[0] & kinds[n - 1].mask) != kinds[n - 1].lead) {
            continue;
        }
        *code = s[0] & (unsigned char) ~kinds[n - 1].mask;
        for (int i = 1; i < n; i++) {
            if ((s[i] & 0xc0) != 0x80) {
                return 0;
            }
            *code = *code << 6 | (s[i] & 0x3f);
        }
        return *code < kinds[n - 1].least || *code > 0x10ffff || (*code >= 0xd800 && *code <= 0xdfff) ? 0 : n;
    }
    return 0;
}

static bool is_between(uint32_t code, uint32_t first, uint32_t last) {
    return code >= first && code <= last;
}

bool clean_is_harmless(uint32_t code) {
    const bool is_control = code < 0x20 || is_between(code, 0x7f, 0x9f) || is_between(code, 0x2028, 0x2029);
    const bool turns      = code == 0x61c || is_between(code, 0x200e, 0x200f) || is_between(code, 0x202a, 0x202e) ||
                            is_between(code, 0x2066, 0x2069);
    return !is_control && !turns;
}

int clean_next(const char * text, bool * harmless) {
    uint32_t  code = 0;
    const int n    = clean_utf8(text, &code);
    *harmless = n > 0 && clean_is_harmless(code);
    return n > 0 || *text == '\0' ? n : 1;
}

void clean_copy(char * to, size_t room, const char * from) {
    bool harmless;
    for (int n; (n = clean_next(from, &harmless)) > 0; from += n) {
        const size_t size = harmless ? (size_t) n : CLEAN_MARK_SIZE;
        if (size >= room) {
            break;
        }
        memcpy(to, harmless ? from : CLEAN_MARK, size);
        to   += size;
        room -= size;
    }
    *to = '\0';
}

char * clean_in_place(char * text) {
    bool harmless;
    for (char * at = text; *at != '\0'; ) {
        const int n = clean_next(at, &harmless);
        if (!harmless) {
            memset(at, '?', (size_t) n);
        }
        at += n;
    }
    return text;
}
