#include "CStartCheck.h"

#include "CProcessShims.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

void csc_require(void) {}

// How many files may still be opened; no more than `enough` are counted.
static int open_files_left(int enough) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return enough;
    int left = 0;
    for (int file = 0; left < enough && (rlim_t)file < limit.rlim_cur; file++) left += fcntl(file, F_GETFD) < 0;
    return left;
}

static int has_argument(int count, char **arguments, const char *wanted) {
    for (int index = 1; index < count && arguments[index] != NULL; index++) {
        if (strcmp(arguments[index], wanted) == 0) return 1;
    }
    return 0;
}

// Memory is scarce, and nothing is initialised: no other buffers are used.
static void refuse(int count, char **arguments, const char *message, const char *remedy) {
    const char *path = count > 0 && arguments[0] != NULL ? arguments[0] : "step3";
    const char *name = strrchr(path, '/') == NULL ? path : strrchr(path, '/') + 1;
    char text[1024];
    const int length = has_argument(count, arguments, "--json")
        ? snprintf(text, sizeof text,
                   "{ \"error\": { \"code\": \"inputOutput\", \"message\": \"%s\", \"path\": null, \"offset\": null, "
                   "\"tensor\": null, \"remedy\": \"%s\", \"exitCode\": 74 } }\n",
                   message, remedy)
        : snprintf(text, sizeof text, "%.200s: error: %s; %s\n", name, message, remedy);
    if (length > 0) (void)!write(STDERR_FILENO, text, strnlen(text, sizeof text - 1));
    _exit(74);
}

static void check(int count, char **arguments) {
    char message[256];
    const int64_t space = cfs_address_space_left();
    if (space < csc_address_space) {
        snprintf(message, sizeof message, "%d MiB of address space are needed to begin with, and %.1f MiB are left",
                 csc_address_space >> 20, (double)space / (1 << 20));
        refuse(count, arguments, message, "raise the limit (ulimit -v)");
    }
    if (open_files_left(csc_open_files) == csc_open_files) return;
    // The hard limit is often higher than the soft limit.
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max > limit.rlim_cur) {
        limit.rlim_cur = limit.rlim_max < 1024 ? limit.rlim_max : 1024;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    const int files = open_files_left(csc_open_files);
    if (files == csc_open_files) return;
    snprintf(message, sizeof message, "%d open files are needed to begin with, and %d are left", csc_open_files, files);
    refuse(count, arguments, message, "raise the limit (ulimit -n)");
}

#if defined(__APPLE__)
#include <crt_externs.h>
__attribute__((constructor)) static void start(void) { check(*_NSGetArgc(), *_NSGetArgv()); }
#else
#if defined(__GLIBC__)
// glibc passes a constructor the arguments of `main`.
__attribute__((constructor)) static void start(int count, char **arguments) { check(count, arguments); }
#else
__attribute__((constructor)) static void start(void) { check(0, NULL); }
#endif
#endif
