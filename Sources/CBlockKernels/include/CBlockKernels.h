// SIMD kernels of the block formats. Each function exists in several forms (tiers) that return the same bits; the
// readable definition that all of them are held to is the Swift twin in the Quantization module.
//
// Two function types serve every format:
//   cbk_decode_fn  blocks -> F32
//   cbk_encode_fn  F32 rows -> blocks
// All buffers may be unaligned. Sizes are checked by the caller (Quantization/BlockCodec.swift), never here.
#ifndef CBLOCKKERNELS_H
#define CBLOCKKERNELS_H

#include "cbk_common.h"
#include "cbk_flat.h"
#include "cbk_iq.h"
#include "cbk_k.h"
#include "cbk_measure.h"
#include "cbk_planes.h"
#include "cbk_products.h"
#include "cbk_scheme.h"

#endif
