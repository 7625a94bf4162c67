// Tells ThreadSanitizer about contended locks.
//
// Swift's Mutex takes and releases a free lock in code that is inlined into its user, where the sanitizer sees it. A lock that
// several threads want is taken and released inside the standard library, which is not built with the sanitizer: what it
// protects then looks like a race. This library is loaded before the standard library and adds what is missing. Linux only:
// elsewhere Mutex is the system's own lock.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>

#define LOCK_SLOW "$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF"
#define UNLOCK_SLOW "$s15Synchronization12_MutexHandleV11_unlockSlowyyF"
#define HANDLE __attribute__((swift_context)) void *handle

typedef __attribute__((swiftcall)) void lock_slow(uint32_t thread, HANDLE);
typedef __attribute__((swiftcall)) void unlock_slow(HANDLE);

__attribute__((weak)) void __tsan_acquire(void *address);
__attribute__((weak)) void __tsan_release(void *address);

__attribute__((swiftcall)) void shim_lock_slow(uint32_t thread, HANDLE) __asm__(LOCK_SLOW);
__attribute__((swiftcall)) void shim_unlock_slow(HANDLE) __asm__(UNLOCK_SLOW);

static lock_slow *original_lock_slow;
static unlock_slow *original_unlock_slow;

__attribute__((constructor)) static void find(void)
{
    original_lock_slow = (lock_slow *)dlsym(RTLD_NEXT, LOCK_SLOW);
    original_unlock_slow = (unlock_slow *)dlsym(RTLD_NEXT, UNLOCK_SLOW);
}

__attribute__((swiftcall)) void shim_lock_slow(uint32_t thread, HANDLE)
{
    if (original_lock_slow == NULL) abort();
    original_lock_slow(thread, handle);
    if (__tsan_acquire != NULL) __tsan_acquire(handle);
}

__attribute__((swiftcall)) void shim_unlock_slow(HANDLE)
{
    if (original_unlock_slow == NULL) abort();
    if (__tsan_release != NULL) __tsan_release(handle);
    original_unlock_slow(handle);
}
