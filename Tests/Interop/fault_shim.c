// Loaded into a tool with LD_PRELOAD: one call of the system fails.
//
// STEP3_FAULT=CALL:ERRNO:N:TEXT has the N-th call (from 0) of that name fail that is about a path with TEXT in it.
// STEP3_FAULT_LOG=FILE gets a byte when it has failed, so that a test knows when to stop.
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_int count;

static int fails(const char *call, const char *path) {
    const char *fault = getenv("STEP3_FAULT");
    char name[64], text[256] = "";
    int code, number;
    if (fault == NULL || path == NULL) return 0;
    if (sscanf(fault, "%63[^:]:%d:%d:%255s", name, &code, &number, text) < 3) return 0;
    if (strcmp(name, call) != 0 || strstr(path, text) == NULL) return 0;
    if (atomic_fetch_add(&count, 1) != number) return 0;
    const char *log = getenv("STEP3_FAULT_LOG");
    if (log != NULL) {
        int (*next)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
        int file = next(log, O_WRONLY | O_CREAT | O_APPEND, 0644);
        if (file >= 0) {
            ssize_t (*append)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
            (void)!append(file, "x", 1);
            close(file);
        }
    }
    errno = code;
    return 1;
}

static int fails_at(const char *call, int descriptor) {
    char link[64], path[4096];
    if (getenv("STEP3_FAULT") == NULL) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return fails(call, path);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define OPENING(name)                                                        \
    int name(const char *path, int flags, ...) {                             \
        va_list list;                                                        \
        va_start(list, flags);                                               \
        mode_t mode = va_arg(list, mode_t);                                  \
        va_end(list);                                                        \
        if (fails(flags & O_CREAT ? "create" : "open", path)) return -1;     \
        return NEXT(name)(path, flags, mode);                                \
    }
#define OPENING_AT(name)                                                     \
    int name(int directory, const char *path, int flags, ...) {              \
        va_list list;                                                        \
        va_start(list, flags);                                               \
        mode_t mode = va_arg(list, mode_t);                                  \
        va_end(list);                                                        \
        if (fails(flags & O_CREAT ? "create" : "open", path)) return -1;     \
        return NEXT(name)(directory, path, flags, mode);                     \
    }
OPENING(open)
OPENING(open64)
OPENING_AT(openat)
OPENING_AT(openat64)

int mkdir(const char *path, mode_t mode) { return fails("mkdir", path) ? -1 : NEXT(mkdir)(path, mode); }
int mkdirat(int directory, const char *path, mode_t mode) {
    return fails("mkdir", path) ? -1 : NEXT(mkdirat)(directory, path, mode);
}
DIR *opendir(const char *path) { return fails("opendir", path) ? NULL : NEXT(opendir)(path); }
struct dirent *readdir(DIR *stream) {
    return fails_at("readdir", dirfd(stream)) ? NULL : NEXT(readdir)(stream);
}
int fsync(int file) { return fails_at("fsync", file) ? -1 : NEXT(fsync)(file); }
int fdatasync(int file) { return fails_at("fsync", file) ? -1 : NEXT(fdatasync)(file); }
ssize_t pread(int file, void *bytes, size_t size, off_t offset) {
    return fails_at("pread", file) ? -1 : NEXT(pread)(file, bytes, size, offset);
}
ssize_t pread64(int file, void *bytes, size_t size, off64_t offset) {
    return fails_at("pread", file) ? -1 : NEXT(pread64)(file, bytes, size, offset);
}
ssize_t pwrite(int file, const void *bytes, size_t size, off_t offset) {
    return fails_at("pwrite", file) ? -1 : NEXT(pwrite)(file, bytes, size, offset);
}
ssize_t pwrite64(int file, const void *bytes, size_t size, off64_t offset) {
    return fails_at("pwrite", file) ? -1 : NEXT(pwrite64)(file, bytes, size, offset);
}
int renameat(int from, const char *old, int to, const char *new) {
    return fails("rename", old) ? -1 : NEXT(renameat)(from, old, to, new);
}
int renameat2(int from, const char *old, int to, const char *new, unsigned flags) {
    return fails("rename", old) ? -1 : NEXT(renameat2)(from, old, to, new, flags);
}
