// The IQ encoders in AVX-512, sixteen sub-blocks at a time. The searches are in the headers that iq_form.h includes.
#if defined(__x86_64__)
#pragma STDC FP_CONTRACT OFF

#include <immintrin.h>
#include "iq_common.h"
#include "iq_grid.h"

#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx2,fma,f16c,bmi,bmi2,popcnt"))), apply_to = function)
#define IQ_LANES 16
#define IQ_FORM iq_encoders_avx512
#include "iq_form.h"
#pragma clang attribute pop

#endif
