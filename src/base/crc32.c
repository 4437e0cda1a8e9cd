// Eight tables, made by the preprocessor, and eight bytes at a time.

#include "base/crc32.h"

// What a byte contributes is the sum (XOR) of what its bits do: each table is told by eight of its numbers.
#define CRC_BIT(n, bit, value) ((n) & (bit) ? (value) : 0u)
#define CRC_BYTE(n, a, b, c, d, e, f, g, h) \
    (CRC_BIT(n,  1, a) ^ CRC_BIT(n,  2, b) ^ CRC_BIT(n,  4, c) ^ CRC_BIT(n,   8, d) ^ \
     CRC_BIT(n, 16, e) ^ CRC_BIT(n, 32, f) ^ CRC_BIT(n, 64, g) ^ CRC_BIT(n, 128, h))
#define CRC_2(n, ...)  CRC_BYTE(n, __VA_ARGS__), CRC_BYTE(n + 1, __VA_ARGS__)
#define CRC_4(n, ...)  CRC_2(n, __VA_ARGS__),  CRC_2(n + 2, __VA_ARGS__)
#define CRC_8(n, ...)  CRC_4(n, __VA_ARGS__),  CRC_4(n + 4, __VA_ARGS__)
#define CRC_16(n, ...) CRC_8(n, __VA_ARGS__),  CRC_8(n + 8, __VA_ARGS__)
#define CRC_32(n, ...) CRC_16(n, __VA_ARGS__), CRC_16(n + 16, __VA_ARGS__)
#define CRC_64(n, ...) CRC_32(n, __VA_ARGS__), CRC_32(n + 32, __VA_ARGS__)
#define CRC_TABLE(...) \
    { CRC_64(0, __VA_ARGS__), CRC_64(64, __VA_ARGS__), CRC_64(128, __VA_ARGS__), CRC_64(192, __VA_ARGS__) }

// What a byte contributes that is followed by 0, 1, 2 … bytes.
static const uint32_t crc_tables[8][256] = {
    CRC_TABLE(0x77073096, 0xee0e612c, 0x076dc419, 0x0edb8832, 0x1db71064, 0x3b6e20c8, 0x76dc4190, 0xedb88320),
    CRC_TABLE(0x191b3141, 0x32366282, 0x646cc504, 0xc8d98a08, 0x4ac21251, 0x958424a2, 0xf0794f05, 0x3b83984b),
    CRC_TABLE(0x01c26a37, 0x0384d46e, 0x0709a8dc, 0x0e1351b8, 0x1c26a370, 0x384d46e0, 0x709a8dc0, 0xe1351b80),
    CRC_TABLE(0xb8bc6765, 0xaa09c88b, 0x8f629757, 0xc5b428ef, 0x5019579f, 0xa032af3e, 0x9b14583d, 0xed59b63b),
    CRC_TABLE(0x3d6029b0, 0x7ac05360, 0xf580a6c0, 0x30704bc1, 0x60e09782, 0xc1c12f04, 0x58f35849, 0xb1e6b092),
    CRC_TABLE(0xcb5cd3a5, 0x4dc8a10b, 0x9b914216, 0xec53826d, 0x03d6029b, 0x07ac0536, 0x0f580a6c, 0x1eb014d8),
    CRC_TABLE(0xa6770bb4, 0x979f1129, 0xf44f2413, 0x33ef4e67, 0x67de9cce, 0xcfbd399c, 0x440b7579, 0x8816eaf2),
    CRC_TABLE(0xccaa009e, 0x4225077d, 0x844a0efa, 0xd3e51bb5, 0x7cbb312b, 0xf9766256, 0x299dc2ed, 0x533b85da),
};

uint32_t trace_crc32(const void * data, size_t size) {
    const uint8_t * at  = data;
    uint32_t        crc = 0xffffffff;
    for (; size >= 8; size -= 8, at += 8) {
        crc ^= (uint32_t) at[0] | (uint32_t) at[1] << 8 | (uint32_t) at[2] << 16 | (uint32_t) at[3] << 24;
        crc = crc_tables[7][crc & 0xff]       ^ crc_tables[6][crc >> 8 & 0xff] ^
              crc_tables[5][crc >> 16 & 0xff] ^ crc_tables[4][crc >> 24]       ^
              crc_tables[3][at[4]]            ^ crc_tables[2][at[5]]           ^
              crc_tables[1][at[6]]            ^ crc_tables[0][at[7]];
    }
    for (; size > 0; size--, at++) {
        crc = crc >> 8 ^ crc_tables[0][(crc ^ *at) & 0xff];
    }
    return ~crc;
}
