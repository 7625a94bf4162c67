// The IQ encoders in plain C, one sub-block at a time. The searches are in the headers that iq_form.h includes.
#pragma STDC FP_CONTRACT OFF

#include "iq_common.h"
#include "iq_grid.h"

#define IQ_LANES 1
#define IQ_FORM iq_encoders_portable
#include "iq_form.h"
