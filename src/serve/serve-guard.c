// Checks the headers of requests. Against pages of other sites, and against names that lead here (DNS rebinding).

#include "serve/serve-guard.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <unistd.h>

#define BEARER "Bearer "

// Nothing, or ":9464".
static bool is_port(const char * text) {
    return text[0] == '\0' || (text[0] == ':' && text[1 + strspn(text + 1, "0123456789")] == '\0');
}

// "127.0.0.1:9464", "[::1]", "localhost": without brackets and port.
static bool host_part(const char * text, char host[SERVE_ADDRESS_MAX]) {
    const bool   bracketed = text[0] == '[';
    const char * begin     = text + bracketed;
    const size_t length    = strcspn(begin, bracketed ? "]" : ":");
    const char * end       = begin + length;
    if (length == 0 || length >= SERVE_ADDRESS_MAX || (bracketed && *end == '\0') || !is_port(end + bracketed)) {
        return false;
    }
    memcpy(host, begin, length);
    host[length] = '\0';
    return true;
}

// Where it listens on all addresses, whoever sent a number did not have it from DNS.
bool serve_guard_host(const struct serve_address * address, const char * host) {
    char name[SERVE_ADDRESS_MAX];
    char machine[SERVE_ADDRESS_MAX];
    if (host == NULL || !host_part(host, name)) {
        return false;
    }
    if (strcasecmp(name, "localhost") == 0 || serve_address_is_loopback(name) || strcmp(name, address->host) == 0) {
        return true;
    }
    if (serve_address_is_loopback(address->host)) {
        return false;
    }
    return (address->is_any && serve_address_is_number(name))
        || (gethostname(machine, sizeof(machine)) == 0 && strncasecmp(name, machine, sizeof(machine)) == 0);
}

bool serve_guard_origin(const char * host, const char * origin, const char * fetch_site) {
    static const char scheme[] = "http://";
    if (fetch_site != NULL && strcmp(fetch_site, "same-origin") != 0 && strcmp(fetch_site, "none") != 0) {
        return false;
    }
    return origin == NULL || (strncmp(origin, scheme, strlen(scheme)) == 0
                              && strcasecmp(origin + strlen(scheme), host) == 0);
}

bool serve_guard_token(char token[SERVE_TOKEN_SIZE]) {
    unsigned char random[(SERVE_TOKEN_SIZE - 1) / 2];
    if (getrandom(random, sizeof(random), 0) != (ssize_t) sizeof(random)) {
        return false;
    }
    for (size_t i = 0; i < sizeof(random); i++) {
        snprintf(token + 2 * i, 3, "%02x", (unsigned) random[i]);
    }
    return true;
}

bool serve_guard_allows(const char * authorization, const char * token) {
    if (authorization == NULL || strncasecmp(authorization, BEARER, strlen(BEARER)) != 0) {
        return false;
    }
    const char           * given     = authorization + strlen(BEARER);
    const size_t           length    = strlen(given);
    volatile unsigned char different = length != SERVE_TOKEN_SIZE - 1;
    for (size_t i = 0; i < SERVE_TOKEN_SIZE - 1; i++) {
        different = (unsigned char) (different | (unsigned char) (token[i] ^ (i < length ? given[i] : 0)));
    }
    return different == 0;
}
