// libpng reports errors by longjmp, which Swift must not see: the whole decoding happens behind one call.
#ifndef CIMAGESHIMS_H
#define CIMAGESHIMS_H

#include <stddef.h>
#include <stdint.h>

/// What a PNG's samples are turned into.
enum cis_layout {
    /// 3 bytes per pixel: red, green, blue. Alpha and tRNS are dropped, 16-bit samples cut to their high byte.
    CIS_RGB = 0,
    /// 4 bytes per pixel: red, green, blue, alpha. tRNS becomes alpha, 16-bit samples are cut to their high byte.
    CIS_RGBA = 1,
    /// 2 bytes per pixel, big-endian: the samples of a 16-bit greyscale image, alpha dropped.
    CIS_GRAY16 = 2,
};

/// Decodes a PNG file held in memory. Gamma and colour profiles are ignored; palettes and greys are expanded.
///
/// `width` and `height` are what the caller has read from the header and allocated for: `pixels` has
/// `height * row_bytes` bytes, `row_bytes` is `width` times the pixel's bytes in `layout`. A file that says otherwise is
/// an error. Returns 0, or 1 with a message of at most `capacity - 1` bytes in `message`.
int cis_decode_png(const uint8_t *bytes, size_t count, uint32_t width, uint32_t height, int layout, uint8_t *pixels,
                   size_t row_bytes, char *message, size_t capacity);

#endif
