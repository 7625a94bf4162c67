#include "CProcessShims.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__APPLE__)
#include <crt_externs.h>
#include <mach-o/dyld.h>
#define ENVIRONMENT (*_NSGetEnviron())
#else
extern char **environ;
#define ENVIRONMENT environ
#endif

int cfs_socket_pair(int *first, int *second) {
    int pair[2];
#if defined(__linux__)
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return errno;
#else
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return errno;
    for (int side = 0; side < 2; side++) {
        int on = 1;
        (void)fcntl(pair[side], F_SETFD, FD_CLOEXEC);
        (void)setsockopt(pair[side], SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
    }
#endif
    *first = pair[0];
    *second = pair[1];
    return 0;
}

int cfs_catch_signal(int number, void (*handler)(int)) {
    struct sigaction action;
    if (sigaction(number, NULL, &action) != 0) return errno;
    if (action.sa_handler == SIG_IGN) return 0;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    return sigaction(number, &action, NULL) == 0 ? 0 : errno;
}

// What is said when a process ends where it is. A pointer, because a signal may come while it is changed.
static _Atomic(const char *) last_words;

void cfs_set_last_words(const char *text) {
    // The old text stays: a handler may be reading it.
    atomic_store(&last_words, text == NULL ? NULL : strdup(text));
}

void cfs_say_last_words(void) {
    const char *text = atomic_load(&last_words);
    if (text == NULL) return;
    ssize_t written = write(STDERR_FILENO, text, strlen(text));
    (void)written;
}

static volatile sig_atomic_t deadline_code = 1;

static void end_at_deadline(int number) {
    (void)number;
    // Behind a line of progress.
    if (isatty(STDERR_FILENO)) (void)!write(STDERR_FILENO, "\n", 1);
    cfs_say_last_words();
    _exit(deadline_code);
}

void cfs_set_deadline(int milliseconds, int exit_code) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = end_at_deadline;
    sigemptyset(&action.sa_mask);
    deadline_code = exit_code;
    struct itimerval timer = {.it_value = {milliseconds / 1000, milliseconds % 1000 * 1000}};
    if (sigaction(SIGALRM, &action, NULL) == 0) (void)setitimer(ITIMER_REAL, &timer, NULL);
}

int64_t cfs_address_space_left(void) {
#if defined(__linux__)
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return INT64_MAX;
    int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (file < 0) return INT64_MAX;
    char text[128];
    ssize_t count = read(file, text, sizeof text - 1);
    close(file);
    if (count <= 0) return INT64_MAX;
    text[count] = 0;
    // The first number is the size in pages.
    int64_t used = (int64_t)strtoull(text, NULL, 10) * sysconf(_SC_PAGESIZE);
    int64_t most = limit.rlim_cur > INT64_MAX ? INT64_MAX : (int64_t)limit.rlim_cur;
    return most > used ? most - used : 0;
#else
    return INT64_MAX;
#endif
}

int cfs_spawn(const char *path, char *const *arguments, int input, int *process) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int result = posix_spawn_file_actions_init(&actions);
    if (result != 0) return result;
    result = posix_spawnattr_init(&attributes);
    if (result != 0) {
        posix_spawn_file_actions_destroy(&actions);
        return result;
    }
    sigset_t all, none;
    sigfillset(&all);
    sigdelset(&all, SIGKILL);
    sigdelset(&all, SIGSTOP);
    // What whoever started this process wants ignored (nohup) is ignored in its children as well.
    const int endings[] = {SIGHUP, SIGINT, SIGTERM};
    for (size_t index = 0; index < sizeof endings / sizeof *endings; index++) {
        struct sigaction action;
        if (sigaction(endings[index], NULL, &action) == 0 && action.sa_handler == SIG_IGN) sigdelset(&all, endings[index]);
    }
    sigemptyset(&none);
    short flags = POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK;
#if defined(__APPLE__)
    flags |= POSIX_SPAWN_CLOEXEC_DEFAULT;
#endif
    result = posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
    if (result == 0) result = posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
#if defined(__APPLE__)
    if (result == 0) result = posix_spawn_file_actions_addinherit_np(&actions, STDERR_FILENO);
#endif
    if (result == 0) result = posix_spawnattr_setsigdefault(&attributes, &all);
    if (result == 0) result = posix_spawnattr_setsigmask(&attributes, &none);
    if (result == 0) result = posix_spawnattr_setflags(&attributes, flags);
    if (result == 0) {
        pid_t child = 0;
        result = posix_spawn(&child, path, &actions, &attributes, arguments, ENVIRONMENT);
        *process = (int)child;
    }
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return result;
}

static int wait_for(int descriptor, short events, int milliseconds) {
    struct pollfd entry = {.fd = descriptor, .events = events};
    int result = poll(&entry, 1, milliseconds);
    if (result >= 0) return result;
    return errno == EINTR ? 0 : -errno;
}

int cfs_wait_readable(int descriptor, int milliseconds) { return wait_for(descriptor, POLLIN, milliseconds); }

int cfs_wait_writable(int descriptor, int milliseconds) { return wait_for(descriptor, POLLOUT, milliseconds); }

int cfs_wait_any_readable(const int *descriptors, uint8_t *ready, size_t count, int milliseconds) {
    enum { most = 1024 };
    struct pollfd entries[most];
    if (count > most) return -EINVAL;
    for (size_t index = 0; index < count; index++) {
        entries[index] = (struct pollfd){.fd = descriptors[index], .events = POLLIN};
    }
    int result = poll(entries, (nfds_t)count, milliseconds);
    if (result < 0 && errno != EINTR) return -errno;
    for (size_t index = 0; index < count; index++) ready[index] = result > 0 && entries[index].revents != 0;
    return result > 0;
}

int cfs_wait_hangup(int descriptor) {
    for (;;) {
        // Hang-ups and errors are reported whatever is asked for.
        struct pollfd entry = {.fd = descriptor, .events = 0};
        int result = poll(&entry, 1, -1);
        if (result > 0) return 0;
        if (result < 0 && errno != EINTR) return errno;
    }
}

int64_t cfs_receive(int descriptor, void *bytes, size_t count) {
    ssize_t result = recv(descriptor, bytes, count, MSG_DONTWAIT);
    return result >= 0 ? (int64_t)result : -(int64_t)errno;
}

int64_t cfs_send(int descriptor, const void *bytes, size_t count) {
#if defined(__linux__)
    ssize_t result = send(descriptor, bytes, count, MSG_DONTWAIT | MSG_NOSIGNAL);
#else
    ssize_t result = send(descriptor, bytes, count, MSG_DONTWAIT);
#endif
    return result >= 0 ? (int64_t)result : -(int64_t)errno;
}

int cfs_reap(int process, int wait, int *exit_code, int *signal) {
    int status = 0;
    pid_t result;
    do {
        result = waitpid(process, &status, wait ? 0 : WNOHANG);
    } while (result < 0 && errno == EINTR);
    if (result < 0) return -errno;
    if (result == 0) return 0;
    *exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    *signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    return (int)result;
}

int cfs_executable_path(char *buffer, size_t capacity) {
    if (capacity == 0) return EINVAL;
#if defined(__APPLE__)
    uint32_t size = capacity > UINT32_MAX ? UINT32_MAX : (uint32_t)capacity;
    return _NSGetExecutablePath(buffer, &size) == 0 ? 0 : ENAMETOOLONG;
#else
    ssize_t count = readlink("/proc/self/exe", buffer, capacity - 1);
    if (count < 0) return errno;
    if ((size_t)count == capacity - 1) return ENAMETOOLONG;
    buffer[count] = 0;
    return 0;
#endif
}
