// The K kernels, AVX2. Eight lanes.
#pragma STDC FP_CONTRACT OFF
#if defined(__x86_64__)
#include <string.h>

#include "k_forms.h"

#pragma clang attribute push(__attribute__((target("avx2,f16c,bmi2"))), apply_to = function)
#define K_LANES 8
#define K_FORMS k_forms_avx2
#include "k_form.h"
#pragma clang attribute pop
#endif
