#ifndef CBK_FLAT_H
#define CBK_FLAT_H

#include "cbk_common.h"

#endif
