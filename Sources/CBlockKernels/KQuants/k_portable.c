// The K kernels, portable. Vectors of four floats: SSE2 on x86-64, NEON on Arm, and whatever the compiler
// makes of them elsewhere.
#pragma STDC FP_CONTRACT OFF
#include <string.h>

#include "k_forms.h"

#define K_LANES 4
#define K_FORMS k_forms_portable
#include "k_form.h"
