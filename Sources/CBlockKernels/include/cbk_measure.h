#ifndef CBK_MEASURE_H
#define CBK_MEASURE_H

#include "cbk_common.h"

#endif
