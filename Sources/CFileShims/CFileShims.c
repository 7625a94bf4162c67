#include "CFileShims.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

int cfs_reserve(int descriptor, int64_t bytes) {
#if defined(__linux__)
    int result;
    do {
        result = bytes == 0 ? 0 : fallocate(descriptor, 0, 0, (off_t)bytes);
    } while (result != 0 && errno == EINTR);
    if (result == 0) return 0;
    if (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL) return errno;
#endif
    return cfs_set_length(descriptor, bytes);
}

int cfs_set_length(int descriptor, int64_t bytes) {
    int result;
    do {
        result = ftruncate(descriptor, (off_t)bytes);
    } while (result != 0 && errno == EINTR);
    return result == 0 ? 0 : errno;
}

int cfs_open_direct(int descriptor, uint32_t *memory, uint32_t *offset) {
#if defined(__linux__) && defined(STATX_DIOALIGN)
    // In-memory file systems do not answer: there is nothing to write to beyond the page cache.
    struct statx own, other;
    if (statx(descriptor, "", AT_EMPTY_PATH, STATX_DIOALIGN | STATX_INO, &own) != 0) return -errno;
    if (!(own.stx_mask & STATX_DIOALIGN) || own.stx_dio_offset_align == 0) return -EOPNOTSUPP;
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    const int direct = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC | O_NONBLOCK);
    if (direct < 0) return -errno;
    struct rlimit limit;
    int failure = getrlimit(RLIMIT_NOFILE, &limit) == 0 && (rlim_t)direct > limit.rlim_cur / 2 ? EMFILE : 0;
    if (failure == 0 && statx(direct, "", AT_EMPTY_PATH, STATX_INO, &other) != 0) failure = errno;
    if (failure == 0 && (own.stx_ino != other.stx_ino || own.stx_dev_major != other.stx_dev_major ||
                         own.stx_dev_minor != other.stx_dev_minor)) {
        failure = EOPNOTSUPP;
    }
    if (failure != 0) {
        close(direct);
        return -failure;
    }
    *memory = own.stx_dio_mem_align;
    *offset = own.stx_dio_offset_align;
    return direct;
#else
    (void)descriptor, (void)memory, (void)offset;
    return -EOPNOTSUPP;
#endif
}

int cfs_rename_exclusive(int from_directory, const char *from, int to_directory, const char *to) {
#if defined(__linux__)
    if (renameat2(from_directory, from, to_directory, to, RENAME_NOREPLACE) == 0) return 0;
    if (errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP) return errno;
#elif defined(__APPLE__)
    if (renameatx_np(from_directory, from, to_directory, to, RENAME_EXCL) == 0) return 0;
    if (errno != EINVAL && errno != ENOTSUP) return errno;
#endif
    // A link never replaces an existing name, so one of two processes fails.
    if (linkat(from_directory, from, to_directory, to, 0) == 0) return unlinkat(from_directory, from, 0) == 0 ? 0 : errno;
    if (errno == EEXIST) return EEXIST;
    // Neither is supported, as on FAT, where checking first is all that can be done.
    struct stat status;
    if (fstatat(to_directory, to, &status, AT_SYMLINK_NOFOLLOW) == 0) return EEXIST;
    return renameat(from_directory, from, to_directory, to) == 0 ? 0 : errno;
}

int cfs_open_at(int directory, const char *name, int flags, unsigned mode) {
    int descriptor;
    do {
        descriptor = openat(directory, name, flags | O_NOFOLLOW | O_CLOEXEC, (mode_t)mode);
    } while (descriptor < 0 && errno == EINTR);
    return descriptor >= 0 ? descriptor : -errno;
}

void cfs_prefetch(int descriptor, int64_t offset, int64_t bytes) {
#if defined(__linux__)
    (void)posix_fadvise(descriptor, (off_t)offset, (off_t)bytes, POSIX_FADV_WILLNEED);
#elif defined(__APPLE__)
    struct radvisory advice = {.ra_offset = (off_t)offset, .ra_count = (int)(bytes > INT32_MAX ? INT32_MAX : bytes)};
    (void)fcntl(descriptor, F_RDADVISE, &advice);
#endif
}

void cfs_drop_cache(int descriptor, int64_t offset, int64_t bytes) {
#if defined(__linux__)
    (void)posix_fadvise(descriptor, (off_t)offset, (off_t)bytes, POSIX_FADV_DONTNEED);
#else
    (void)descriptor, (void)offset, (void)bytes;
#endif
}

int cfs_synchronize(int descriptor) {
#if defined(__APPLE__)
    if (fcntl(descriptor, F_FULLFSYNC) == 0) return 0;
#endif
    return fsync(descriptor) == 0 ? 0 : errno;
}

int cfs_lock(int descriptor) {
    int result;
    do {
        result = flock(descriptor, LOCK_EX | LOCK_NB);
    } while (result != 0 && errno == EINTR);
    return result == 0 ? 0 : errno;
}

void cfs_unlock(int descriptor) { (void)flock(descriptor, LOCK_UN); }

void cfs_raise_open_file_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
#if defined(__APPLE__)
    // A larger value, RLIM_INFINITY too, is refused there.
    if (limit.rlim_cur > OPEN_MAX) limit.rlim_cur = OPEN_MAX;
#endif
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}
