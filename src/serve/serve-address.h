// Where `serve` listens: its option as a socket that is bound, and as text.

#pragma once

#include "tool/error.h"

#include <stdbool.h>
#include <sys/socket.h>

#define SERVE_ADDRESS_DEFAULT "127.0.0.1:9464"
#define SERVE_ADDRESS_MAX     64

struct serve_address {
    struct sockaddr_storage socket;
    socklen_t               size;
    bool                    is_any;                  // all addresses of the machine
    char                    host[SERVE_ADDRESS_MAX]; // without brackets
    unsigned                port;
};

// "127.0.0.1:9464", "[::1]:0", "localhost:9464". Names are not looked up, but for localhost.
bool serve_address_parse (const char * text, struct serve_address * address, struct error * error);

// A listening socket, and in `address` the port that it has; -1, and why.
int  serve_address_listen(struct serve_address * address, struct error * error);

// Whether a text is the number of an address (IPv4, or IPv6 without brackets), and one of this machine alone.
bool serve_address_is_number  (const char * host);
bool serve_address_is_loopback(const char * host);
