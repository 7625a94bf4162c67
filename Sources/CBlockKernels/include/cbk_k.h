#ifndef CBK_K_H
#define CBK_K_H

#include "cbk_common.h"

#endif
