#ifndef CBK_IQ_H
#define CBK_IQ_H

#include "cbk_common.h"

#endif
