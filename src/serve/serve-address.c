// Parses the address that `serve` listens on, and binds a socket to it.

#include "serve/serve-address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BACKLOG 128

//
// text
//

static bool parse_port(const char * text, unsigned * port) {
    *port = 0;
    const size_t length = strspn(text, "0123456789");
    if (length == 0 || length > 5 || text[length] != '\0') {
        return false;
    }
    *port = (unsigned) strtoul(text, NULL, 10);
    return *port <= 65535;
}

// Parts "HOST:PORT" and "[HOST]:PORT".
static bool part(const char * text, char host[SERVE_ADDRESS_MAX], unsigned * port) {
    const bool   bracketed = text[0] == '[';
    const char * begin     = text + bracketed;
    const char * end       = bracketed ? strstr(text, "]:") : strrchr(text, ':');
    const size_t length    = end == NULL ? 0 : (size_t) (end - begin);
    if (length == 0 || length >= SERVE_ADDRESS_MAX || (!bracketed && memchr(begin, ':', length) != NULL)) {
        return false;
    }
    memcpy(host, begin, length);
    host[length] = '\0';
    return parse_port(end + 1 + bracketed, port);
}

static bool set_v4(struct serve_address * address) {
    struct sockaddr_in * v4 = (struct sockaddr_in *) &address->socket;
    if (inet_pton(AF_INET, address->host, &v4->sin_addr) != 1) {
        return false;
    }
    v4->sin_family  = AF_INET;
    v4->sin_port    = htons((uint16_t) address->port);
    address->size   = sizeof(*v4);
    address->is_any = v4->sin_addr.s_addr == htonl(INADDR_ANY);
    return true;
}

static bool set_v6(struct serve_address * address) {
    struct sockaddr_in6 * v6 = (struct sockaddr_in6 *) &address->socket;
    if (inet_pton(AF_INET6, address->host, &v6->sin6_addr) != 1) {
        return false;
    }
    v6->sin6_family = AF_INET6;
    v6->sin6_port   = htons((uint16_t) address->port);
    address->size   = sizeof(*v6);
    address->is_any = IN6_IS_ADDR_UNSPECIFIED(&v6->sin6_addr);
    return true;
}

bool serve_address_parse(const char * text, struct serve_address * address, struct error * error) {
    *address = (struct serve_address) { 0 };
    if (part(text, address->host, &address->port)) {
        if (strcmp(address->host, "localhost") == 0) {
            strcpy(address->host, "127.0.0.1");
        }
        if (set_v4(address) || set_v6(address)) {
            return true;
        }
    }
    return error_set(error, "--listen needs an address and a port, such as " SERVE_ADDRESS_DEFAULT " or [::1]:9464, "
                     "not '%s'", text);
}

bool serve_address_is_number(const char * host) {
    struct in6_addr any;
    return inet_pton(AF_INET, host, &any) == 1 || inet_pton(AF_INET6, host, &any) == 1;
}

bool serve_address_is_loopback(const char * host) {
    struct in_addr  v4;
    struct in6_addr v6;
    return (inet_pton(AF_INET, host, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127)
        || (inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6));
}

//
// socket
//

static int fail(const struct serve_address * address, int fd, struct error * error) {
    const int why = errno;
    if (fd >= 0) {
        close(fd);
    }
    error_set(error, "cannot listen on %s, port %u: %s", address->host, address->port,
              why == EADDRINUSE ? "something does already: choose another one with --listen" : strerror(why));
    return -1;
}

int serve_address_listen(struct serve_address * address, struct error * error) {
    const int yes    = 1;
    const int family = address->socket.ss_family;
    const int fd     = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) != 0
        || (family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof(yes)) != 0)
        || bind(fd, (const struct sockaddr *) &address->socket, address->size) != 0
        || listen(fd, BACKLOG) != 0
        || getsockname(fd, (struct sockaddr *) &address->socket, &address->size) != 0) {
        return fail(address, fd, error);
    }
    address->port = ntohs(family == AF_INET6 ? ((const struct sockaddr_in6 *) &address->socket)->sin6_port
                                             : ((const struct sockaddr_in  *) &address->socket)->sin_port);
    return fd;
}
