#include "CProcessShims.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
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
#include <sysexits.h>
#include <unistd.h>

#if defined(__linux__)
#include <sys/prctl.h>
#endif

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

// The message printed when a signal ends the process. A pointer, because a signal may arrive while it is changed.
static _Atomic(const char *) last_words;

void cfs_set_last_words(const char *text) {
    // The old text is not freed: a handler may be reading it.
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

// Signals ignored by the parent (nohup) are ignored in its children as well.
static int stays_ignored(int number) {
    struct sigaction action;
    return (number == SIGHUP || number == SIGINT || number == SIGTERM) && sigaction(number, NULL, &action) == 0 &&
           action.sa_handler == SIG_IGN;
}

#if defined(__linux__)
struct spawning {
    const char *path;
    char *const *arguments;
    int input, result, is_done;
    pid_t process;
};

// Executes the program. Uses only async-signal-safe calls, as required between fork and exec in a multithreaded
// process.
static void become(const struct spawning *spawning, pid_t parent, int report) {
    // Killed together with its parent even while stopped, and at once if the parent is already gone.
    int failure = prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 ? 0 : errno;
    if (getppid() != parent) _exit(EX_IOERR);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = SIG_DFL;
    for (int number = 1; number < NSIG; number++) {
        if (!stays_ignored(number)) (void)sigaction(number, &action, NULL);
    }
    sigset_t none;
    sigemptyset(&none);
    // Moved out of the way, in case they are standard descriptors because this process has no standard streams.
    report = fcntl(report, F_DUPFD_CLOEXEC, 3);
    const int input = fcntl(spawning->input, F_DUPFD_CLOEXEC, 3), nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (failure == 0 && (report < 0 || input < 0 || nowhere < 0 || dup2(input, STDIN_FILENO) < 0 ||
                         dup2(nowhere, STDOUT_FILENO) < 0 || fcntl(STDOUT_FILENO, F_SETFD, 0) != 0 ||
                         sigprocmask(SIG_SETMASK, &none, NULL) != 0)) {
        failure = errno;
    }
    if (failure == 0) {
        execve(spawning->path, spawning->arguments, ENVIRONMENT);
        failure = errno;
    }
    (void)!write(report, &failure, sizeof failure);
    _exit(EX_OSERR);
}

static void spawn(struct spawning *spawning) {
    int report[2];
    if (pipe2(report, O_CLOEXEC) != 0) {
        spawning->result = errno;
        return;
    }
    const pid_t parent = getpid(), child = fork();
    if (child == 0) become(spawning, parent, report[1]);
    int failure = child < 0 ? errno : 0;
    close(report[1]);
    if (child > 0) {
        // Reads nothing if the other end is closed by exec.
        ssize_t count;
        do {
            count = read(report[0], &failure, sizeof failure);
        } while (count < 0 && errno == EINTR);
        if (count == (ssize_t)sizeof failure) (void)waitpid(child, NULL, 0);
        else failure = 0;
    }
    close(report[0]);
    spawning->process = child;
    spawning->result = failure;
}

// A child ends with the *thread* that created it (PR_SET_PDEATHSIG in prctl(2)), and pool threads come and go: this
// one lives as long as the process.
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct spawning *wanted;
    int is_running;
} spawner = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void *spawn_when_wanted(void *unused) {
    (void)unused;
    pthread_mutex_lock(&spawner.lock);
    for (;;) {
        while (spawner.wanted == NULL) pthread_cond_wait(&spawner.changed, &spawner.lock);
        spawn(spawner.wanted);
        spawner.wanted->is_done = 1;
        spawner.wanted = NULL;
        pthread_cond_broadcast(&spawner.changed);
    }
    return NULL;
}

// With the lock held.
static int start_spawner(void) {
    if (spawner.is_running) return 0;
    // A child has our handlers until they are reset: no signal may arrive before that.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    const int result = pthread_create(&thread, NULL, spawn_when_wanted, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (result != 0) return result;
    pthread_detach(thread);
    spawner.is_running = 1;
    return 0;
}

int cfs_spawn(const char *path, char *const *arguments, int input, int *process) {
    struct spawning spawning = {.path = path, .arguments = arguments, .input = input};
    pthread_mutex_lock(&spawner.lock);
    spawning.result = start_spawner();
    if (spawning.result == 0) {
        while (spawner.wanted != NULL) pthread_cond_wait(&spawner.changed, &spawner.lock);
        spawner.wanted = &spawning;
        pthread_cond_broadcast(&spawner.changed);
        while (!spawning.is_done) pthread_cond_wait(&spawner.changed, &spawner.lock);
    }
    pthread_mutex_unlock(&spawner.lock);
    *process = (int)spawning.process;
    return spawning.result;
}
#else
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
    for (int number = 1; number < NSIG; number++) {
        if (stays_ignored(number)) sigdelset(&all, number);
    }
    sigemptyset(&none);
    short flags = POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK;
    flags |= POSIX_SPAWN_CLOEXEC_DEFAULT;
    result = posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
    if (result == 0) result = posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    if (result == 0) result = posix_spawn_file_actions_addinherit_np(&actions, STDERR_FILENO);
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
#endif

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
        // Hang-ups and errors are always reported.
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
