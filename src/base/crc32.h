// CRC-32 as in the routing trace, which is the one of zlib, PNG and Ethernet.

#pragma once

#include <stddef.h>
#include <stdint.h>

uint32_t trace_crc32(const void * data, size_t size);
