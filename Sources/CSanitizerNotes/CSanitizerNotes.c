#include "CSanitizerNotes.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CSN_THREADS_ARE_WATCHED 1
#endif
#endif

#ifdef CSN_THREADS_ARE_WATCHED
void __tsan_acquire(void *address);
void __tsan_release(void *address);

void csn_handed_over(const void *address) { __tsan_release((void *)address); }
void csn_taken_over(const void *address) { __tsan_acquire((void *)address); }
#else
void csn_handed_over(const void *address) { (void)address; }
void csn_taken_over(const void *address) { (void)address; }
#endif
