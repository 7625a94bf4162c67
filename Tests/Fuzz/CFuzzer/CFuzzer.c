// A C target needs a source file; the declaration in the header is all there is.
#include "CFuzzer.h"
