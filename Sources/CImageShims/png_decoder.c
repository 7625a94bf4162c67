#include "CImageShims.h"

#include <png.h>
#include <setjmp.h>
#include <string.h>

typedef struct {
    const uint8_t *bytes;
    size_t left;
} source;

typedef struct {
    char *text;
    size_t capacity;
} report;

static void read_bytes(png_structp png, png_bytep target, size_t count) {
    source *from = png_get_io_ptr(png);
    if (count > from->left) png_error(png, "the file ends early");
    memcpy(target, from->bytes, count);
    from->bytes += count;
    from->left -= count;
}

static void fail(png_structp png, png_const_charp text) {
    report *to = png_get_error_ptr(png);
    size_t length = strlen(text);
    if (length > to->capacity - 1) length = to->capacity - 1;
    memcpy(to->text, text, length);
    to->text[length] = 0;
    png_longjmp(png, 1);
}

static void ignore(png_structp png, png_const_charp text) { (void)png, (void)text; }

/// Requests the libpng transformations from the file's format to `layout`.
static void set_transformations(png_structp png, png_infop info, int layout) {
    const int type = png_get_color_type(png, info);
    const int has_alpha = (type & PNG_COLOR_MASK_ALPHA) != 0;
    const int has_key = png_get_valid(png, info, PNG_INFO_tRNS) != 0;
    if (layout == CIS_GRAY16) {
        png_set_strip_alpha(png);
        return;
    }
    // The high byte, not the nearest 8-bit value: that is what Pillow keeps.
    png_set_strip_16(png);
    if (type == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png);
    if (!(type & PNG_COLOR_MASK_COLOR)) {
        png_set_expand_gray_1_2_4_to_8(png);
        png_set_gray_to_rgb(png);
    }
    if (layout == CIS_RGB) {
        png_set_strip_alpha(png);
    } else if (has_key) {
        png_set_tRNS_to_alpha(png);
    } else if (!has_alpha) {
        png_set_add_alpha(png, 0xFF, PNG_FILLER_AFTER);
    }
}

int cis_decode_png(const uint8_t *bytes, size_t count, uint32_t width, uint32_t height, int layout, uint8_t *pixels,
                   size_t row_bytes, char *message, size_t capacity) {
    source from = {bytes, count};
    report to = {message, capacity};
    png_structp volatile png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &to, fail, ignore);
    png_infop volatile info = png ? png_create_info_struct(png) : NULL;
    if (!info) {
        strncpy(message, "out of memory", capacity - 1);
        message[capacity - 1] = 0;
        png_structp made = png;
        png_destroy_read_struct(&made, NULL, NULL);
        return 1;
    }
    int volatile result = 1;
    if (setjmp(png_jmpbuf(png)) == 0) {
        png_set_read_fn(png, &from, read_bytes);
        png_set_user_limits(png, width, height);
        // Only IHDR, PLTE, tRNS, IDAT and IEND are read: no profile, no text, no gamma.
        png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
        png_read_info(png, info);
        if (png_get_image_width(png, info) != width || png_get_image_height(png, info) != height)
            png_error(png, "the header is not where the file begins");
        set_transformations(png, info, layout);
        const int passes = png_set_interlace_handling(png);
        png_read_update_info(png, info);
        if (png_get_rowbytes(png, info) != row_bytes) png_error(png, "the rows have another length than expected");
        for (int pass = 0; pass < passes; pass++)
            for (uint32_t row = 0; row < height; row++) png_read_row(png, pixels + row * row_bytes, NULL);
        // The checksum of the last data chunk is only checked here.
        png_read_end(png, NULL);
        result = 0;
    }
    png_structp made_png = png;
    png_infop made_info = info;
    png_destroy_read_struct(&made_png, &made_info, NULL);
    return result;
}
