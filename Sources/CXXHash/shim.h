// Exposes libxxhash's streaming interface to Swift.
#include <xxhash.h>
