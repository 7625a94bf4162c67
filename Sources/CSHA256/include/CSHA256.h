// SHA-256 by the processor's own instructions, of one stream or of two side by side.
//
// Each round needs the result of the one before, so that one stream leaves the units that compute rounds idle half of the
// time: a core takes in two streams together nearly as fast as one of them.
#ifndef CSHA256_H
#define CSHA256_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// What has been taken in of a stream.
typedef struct {
    uint32_t words[8];
    uint64_t byte_count;
    /// Bytes that are no whole block yet: byte_count % 64 of them.
    uint8_t rest[64];
} csha_stream;

/// Whether the processor has the instructions. Nothing else here may be called where it has not.
bool csha_is_supported(void);

/// Begins an empty stream.
void csha_begin(csha_stream *stream);

/// Takes in the next bytes of a stream.
void csha_update(csha_stream *stream, const void *bytes, size_t count);

/// Takes in the next bytes of two streams, as far as possible side by side.
void csha_update_two(csha_stream *one, const void *bytes_of_one, size_t count_of_one, csha_stream *other,
                     const void *bytes_of_other, size_t count_of_other);

/// Writes the digest of what has been taken in. The stream stays as it is.
void csha_digest(const csha_stream *stream, uint8_t digest[32]);

#ifdef __cplusplus
}
#endif

#endif
