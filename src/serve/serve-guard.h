// Who may ask `serve` for what: headers of a request are held against where it listens and its token.

#pragma once

#include "serve/serve-address.h"

#define SERVE_TOKEN_SIZE 65 // with its zero byte

// Whether a Host header (NULL: there is none) names this server: localhost, an address of loopback, or where it
// listens. A name that somebody else's DNS leads here is none of these. The port does not matter: it may be forwarded.
bool serve_guard_host  (const struct serve_address * address, const char * host);

// Whether a page of another origin asks. Both headers may be NULL; browsers send them, other clients mostly do not.
bool serve_guard_origin(const char * host, const char * origin, const char * fetch_site);

// False where the machine has no random numbers.
bool serve_guard_token (char token[SERVE_TOKEN_SIZE]);

// Whether an Authorization header (NULL: there is none) has the token; takes as long whatever it has.
bool serve_guard_allows(const char * authorization, const char * token);
