// The K kernels, AVX-512. Sixteen lanes.
#pragma STDC FP_CONTRACT OFF
#if defined(__x86_64__)
#include <stdbool.h>
#include <string.h>

#include "k_forms.h"

#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi"))),        \
                             apply_to = function)
#define K_LANES 16
#define K_FORMS k_forms_avx512
#include "k_form.h"
#pragma clang attribute pop
#endif
