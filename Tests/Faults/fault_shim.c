// Loaded into a tool with LD_PRELOAD: makes one system call fail.
//
// STEP3_FAULT=CALL:WHAT:N:TEXT gives the N-th call (from 0) of that name on a path that contains TEXT its
// fault. WHAT is an errno (the call is not made), `short` (half of the bytes are moved), `kill` (the process
// is killed instead of making it), `after` (made, then killed) or `stop` (stopped before it, until continued).
// Only calls on files, directories and the
// random source are intercepted: the system's own files (/proc, /sys, /dev/null) are not a medium that fails.
// STEP3_FAULT_LOG=FILE gets a line with the call that the fault hit, so that a test knows when to stop.
// STEP3_FAULT_TRACE=FILE gets a line for each call, `CALL BYTES PATH`, for a run without faults.
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

// What is to happen to a call.
enum { ordinary = -1, halved = -2, fatal_after = -3, stopped = -4 };

static struct {
    char call[32], text[256];
    int what, number;
    const char *log, *trace;
} fault = {.number = -1};

static atomic_int count;

__attribute__((constructor)) static void configure(void) {
    fault.log = getenv("STEP3_FAULT_LOG");
    fault.trace = getenv("STEP3_FAULT_TRACE");
    const char *value = getenv("STEP3_FAULT");
    char what[16];
    int number;
    if (value == NULL || sscanf(value, "%31[^:]:%15[^:]:%d:%255s", fault.call, what, &number, fault.text) < 3) return;
    fault.number = number;
    fault.what = strcmp(what, "short") == 0 ? halved
        : strcmp(what, "after") == 0        ? fatal_after
        : strcmp(what, "stop") == 0         ? stopped
        : strcmp(what, "kill") == 0         ? 0
                                            : atoi(what);
}

// The shim's own system calls, which are not intercepted.
static void note(const char *file, const char *call, long bytes, const char *path) {
    char line[PATH_MAX + 64];
    int length = snprintf(line, sizeof line, "%s %ld %s\n", call, bytes, path);
    long descriptor = syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (descriptor < 0) return;
    syscall(SYS_write, descriptor, line, (size_t)length);
    syscall(SYS_close, descriptor);
}

static int decide(const char *call, const char *path, long bytes) {
    if (fault.trace == NULL && fault.number < 0) return ordinary;
    if (path == NULL || strncmp(path, "/proc/", 6) == 0 || strncmp(path, "/sys/", 5) == 0 ||
        strncmp(path, "/dev/null", 9) == 0 || strncmp(path, "/etc/", 5) == 0 || strncmp(path, "/usr/", 5) == 0) {
        return ordinary;
    }
    const int saved = errno;
    if (fault.trace != NULL) note(fault.trace, call, bytes, path);
    errno = saved;
    if (fault.number < 0 || strcmp(fault.call, call) != 0 || strstr(path, fault.text) == NULL) return ordinary;
    // A single byte cannot be halved.
    if (fault.what == halved && bytes < 2) return ordinary;
    if (atomic_fetch_add(&count, 1) != fault.number) return ordinary;
    if (fault.log != NULL) note(fault.log, call, bytes, path);
    if (fault.what == 0) kill(getpid(), SIGKILL);
    if (fault.what == stopped) kill(getpid(), SIGSTOP);
    errno = saved;
    return fault.what;
}

static int decide_at(const char *call, int descriptor, long bytes) {
    if (fault.trace == NULL && fault.number < 0) return ordinary;
    if (fault.trace == NULL && strcmp(fault.call, call) != 0) return ordinary;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    const int saved = errno;
    ssize_t length = syscall(SYS_readlink, link, path, sizeof path - 1);
    errno = saved;
    if (length < 0) return ordinary;
    path[length] = 0;
    return decide(call, path, bytes);
}

// `value` is what the call returns when it fails.
#define FAILING(decision, value, call)           \
    do {                                         \
        const int chosen = (decision);           \
        if (chosen > 0) {                        \
            errno = chosen;                      \
            return value;                        \
        }                                        \
        __typeof__(call) result = (call);        \
        if (chosen == fatal_after) {             \
            kill(getpid(), SIGKILL);             \
        }                                        \
        return result;                           \
    } while (0)

#define HALVED(decision, size, call)             \
    do {                                         \
        const int what = (decision);             \
        if (what == halved) (size) /= 2;         \
        FAILING(what, -1, call);                 \
    } while (0)

#define OPENING(name)                                                                                            \
    int name(const char *path, int flags, ...) {                                                                 \
        va_list list;                                                                                            \
        va_start(list, flags);                                                                                   \
        mode_t mode = va_arg(list, mode_t);                                                                      \
        va_end(list);                                                                                            \
        FAILING(decide(flags & O_CREAT ? "create" : "open", path, 0), -1, NEXT(name)(path, flags, mode));        \
    }
#define OPENING_AT(name)                                                                                         \
    int name(int directory, const char *path, int flags, ...) {                                                  \
        va_list list;                                                                                            \
        va_start(list, flags);                                                                                   \
        mode_t mode = va_arg(list, mode_t);                                                                      \
        va_end(list);                                                                                            \
        FAILING(decide(flags & O_CREAT ? "create" : "open", path, 0), -1, NEXT(name)(directory, path, flags, mode)); \
    }
OPENING(open)
OPENING(open64)
OPENING_AT(openat)
OPENING_AT(openat64)

int creat(const char *path, mode_t mode) { FAILING(decide("create", path, 0), -1, NEXT(creat)(path, mode)); }
FILE *fopen(const char *path, const char *mode) { FAILING(decide("open", path, 0), NULL, NEXT(fopen)(path, mode)); }
FILE *fopen64(const char *path, const char *mode) { FAILING(decide("open", path, 0), NULL, NEXT(fopen64)(path, mode)); }
int close(int file) {
    // A descriptor is gone even where closing it fails.
    const int what = decide_at("close", file, 0);
    const int result = NEXT(close)(file);
    if (what == fatal_after) kill(getpid(), SIGKILL);
    if (what <= 0) return result;
    errno = what;
    return -1;
}

int mkdir(const char *path, mode_t mode) { FAILING(decide("mkdir", path, 0), -1, NEXT(mkdir)(path, mode)); }
int mkdirat(int directory, const char *path, mode_t mode) {
    FAILING(decide("mkdir", path, 0), -1, NEXT(mkdirat)(directory, path, mode));
}
int rmdir(const char *path) { FAILING(decide("unlink", path, 0), -1, NEXT(rmdir)(path)); }
int unlink(const char *path) { FAILING(decide("unlink", path, 0), -1, NEXT(unlink)(path)); }
int unlinkat(int directory, const char *path, int flags) {
    FAILING(decide("unlink", path, 0), -1, NEXT(unlinkat)(directory, path, flags));
}
int rename(const char *old, const char *new) { FAILING(decide("rename", old, 0), -1, NEXT(rename)(old, new)); }
int renameat(int from, const char *old, int to, const char *new) {
    FAILING(decide("rename", old, 0), -1, NEXT(renameat)(from, old, to, new));
}
int renameat2(int from, const char *old, int to, const char *new, unsigned flags) {
    FAILING(decide("rename", old, 0), -1, NEXT(renameat2)(from, old, to, new, flags));
}
int link(const char *old, const char *new) { FAILING(decide("link", old, 0), -1, NEXT(link)(old, new)); }
int linkat(int from, const char *old, int to, const char *new, int flags) {
    FAILING(decide("link", old, 0), -1, NEXT(linkat)(from, old, to, new, flags));
}
int symlink(const char *to, const char *path) { FAILING(decide("link", path, 0), -1, NEXT(symlink)(to, path)); }

DIR *opendir(const char *path) { FAILING(decide("opendir", path, 0), NULL, NEXT(opendir)(path)); }
DIR *fdopendir(int file) { FAILING(decide_at("opendir", file, 0), NULL, NEXT(fdopendir)(file)); }
struct dirent *readdir(DIR *stream) {
    FAILING(decide_at("readdir", dirfd(stream), 0), NULL, NEXT(readdir)(stream));
}

int fsync(int file) { FAILING(decide_at("fsync", file, 0), -1, NEXT(fsync)(file)); }
int fdatasync(int file) { FAILING(decide_at("fsync", file, 0), -1, NEXT(fdatasync)(file)); }
int sync_file_range(int file, off64_t offset, off64_t size, unsigned flags) {
    FAILING(decide_at("fsync", file, 0), -1, NEXT(sync_file_range)(file, offset, size, flags));
}
int fallocate(int file, int mode, off_t offset, off_t size) {
    FAILING(decide_at("fallocate", file, 0), -1, NEXT(fallocate)(file, mode, offset, size));
}
int ftruncate(int file, off_t size) { FAILING(decide_at("ftruncate", file, 0), -1, NEXT(ftruncate)(file, size)); }
int flock(int file, int operation) {
    FAILING(decide_at(operation & LOCK_UN ? "unlock" : "flock", file, 0), -1, NEXT(flock)(file, operation));
}
int posix_fadvise(int file, off_t offset, off_t size, int advice) {
    // This call returns its error instead of setting errno.
    const int what = decide_at("fadvise", file, 0);
    if (what > 0) return what;
    FAILING(what, 0, NEXT(posix_fadvise)(file, offset, size, advice));
}

ssize_t read(int file, void *bytes, size_t size) {
    HALVED(decide_at("read", file, (long)size), size, NEXT(read)(file, bytes, size));
}
ssize_t write(int file, const void *bytes, size_t size) {
    HALVED(decide_at("write", file, (long)size), size, NEXT(write)(file, bytes, size));
}
ssize_t pread(int file, void *bytes, size_t size, off_t offset) {
    HALVED(decide_at("pread", file, (long)size), size, NEXT(pread)(file, bytes, size, offset));
}
ssize_t pread64(int file, void *bytes, size_t size, off64_t offset) {
    HALVED(decide_at("pread", file, (long)size), size, NEXT(pread64)(file, bytes, size, offset));
}
ssize_t pwrite(int file, const void *bytes, size_t size, off_t offset) {
    HALVED(decide_at("pwrite", file, (long)size), size, NEXT(pwrite)(file, bytes, size, offset));
}
ssize_t pwrite64(int file, const void *bytes, size_t size, off64_t offset) {
    HALVED(decide_at("pwrite", file, (long)size), size, NEXT(pwrite64)(file, bytes, size, offset));
}
ssize_t copy_file_range(int from, off64_t *start, int to, off64_t *place, size_t size, unsigned flags) {
    HALVED(decide_at("pwrite", to, (long)size), size, NEXT(copy_file_range)(from, start, to, place, size, flags));
}
ssize_t getrandom(void *bytes, size_t size, unsigned flags) {
    HALVED(decide("getrandom", "random", (long)size), size, NEXT(getrandom)(bytes, size, flags));
}

int stat(const char *path, struct stat *status) { FAILING(decide("stat", path, 0), -1, NEXT(stat)(path, status)); }
int lstat(const char *path, struct stat *status) { FAILING(decide("stat", path, 0), -1, NEXT(lstat)(path, status)); }
int fstat(int file, struct stat *status) { FAILING(decide_at("stat", file, 0), -1, NEXT(fstat)(file, status)); }
int fstatat(int directory, const char *path, struct stat *status, int flags) {
    FAILING(decide("stat", path, 0), -1, NEXT(fstatat)(directory, path, status, flags));
}
int statx(int directory, const char *path, int flags, unsigned mask, struct statx *status) {
    FAILING(*path ? decide("statx", path, 0) : decide_at("statx", directory, 0), -1,
            NEXT(statx)(directory, path, flags, mask, status));
}
int statvfs(const char *path, struct statvfs *status) {
    FAILING(decide("statvfs", path, 0), -1, NEXT(statvfs)(path, status));
}
int fstatvfs(int file, struct statvfs *status) {
    FAILING(decide_at("statvfs", file, 0), -1, NEXT(fstatvfs)(file, status));
}
char *realpath(const char *path, char *resolved) {
    FAILING(decide("realpath", path, 0), NULL, NEXT(realpath)(path, resolved));
}
ssize_t readlink(const char *path, char *bytes, size_t size) {
    FAILING(decide("readlink", path, 0), -1, NEXT(readlink)(path, bytes, size));
}
off_t lseek(int file, off_t offset, int whence) {
    FAILING(decide_at("lseek", file, 0), -1, NEXT(lseek)(file, offset, whence));
}
int dup(int file) { FAILING(decide_at("dup", file, 0), -1, NEXT(dup)(file)); }
int dup2(int file, int other) { FAILING(decide_at("dup", file, 0), -1, NEXT(dup2)(file, other)); }
int dup3(int file, int other, int flags) { FAILING(decide_at("dup", file, 0), -1, NEXT(dup3)(file, other, flags)); }
void *mmap(void *address, size_t size, int protection, int flags, int file, off_t offset) {
    FAILING(file >= 0 ? decide_at("mmap", file, 0) : ordinary, MAP_FAILED,
            NEXT(mmap)(address, size, protection, flags, file, offset));
}
