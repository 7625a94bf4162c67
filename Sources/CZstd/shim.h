// Exposes libzstd to Swift, with the parameters and questions that its header calls experimental: how literals are coded,
// and what a frame's header says.
#ifndef CZSTD_SHIM_H
#define CZSTD_SHIM_H

#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>
#include <zstd_errors.h>

/// How literals are coded: a macro, which Swift does not see.
static const ZSTD_cParameter cZstdLiteralCompressionMode = ZSTD_c_literalCompressionMode;

#endif
