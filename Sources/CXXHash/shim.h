// Exposes libxxhash's streaming interface to Swift.
#ifndef CXXHASH_SHIM_H
#define CXXHASH_SHIM_H

#include <xxhash.h>

#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
#define XXH_DISPATCH_DISABLE_REPLACE
#include <xxh_x86dispatch.h>
#define CXXHASH_UPDATE XXH3_128bits_update_dispatch
#else
#define CXXHASH_UPDATE XXH3_128bits_update
#endif

/// XXH3_128bits_update with the widest vectors that the processor has: a library built for every x86-64 processor uses
/// 16 bytes at a time on its own and keeps AVX2 and AVX-512 behind a second header.
static inline XXH_errorcode cxxhash_update_128(XXH3_state_t *state, const void *bytes, size_t count) {
    return CXXHASH_UPDATE(state, bytes, count);
}

#undef CXXHASH_UPDATE

#endif
