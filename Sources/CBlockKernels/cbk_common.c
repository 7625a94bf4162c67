#include "cbk_common.h"

cbk_tier cbk_best_tier(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c") &&
                     __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    const int avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                       __builtin_cpu_supports("avx512vbmi");
    return avx2 ? (avx512 ? CBK_AVX512 : CBK_AVX2) : CBK_PORTABLE;
#elif defined(__aarch64__)
    return CBK_NEON;
#else
    return CBK_PORTABLE;
#endif
}
