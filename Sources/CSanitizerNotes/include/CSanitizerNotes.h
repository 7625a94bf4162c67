// What ThreadSanitizer is told where it cannot see for itself that one thread's work comes before another's. Nothing in any
// other build.
#ifndef CSANITIZERNOTES_H
#define CSANITIZERNOTES_H

/// What the calling thread has done so far comes before whatever follows a `csn_taken_over` of the same address.
void csn_handed_over(const void *address);

/// What follows comes after all that preceded a `csn_handed_over` of the same address.
void csn_taken_over(const void *address);

#endif
