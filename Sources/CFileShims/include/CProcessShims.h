// Processes that talk over connected sockets, where Swift's view of the system calls differs between systems.
#ifndef CPROCESSSHIMS_H
#define CPROCESSSHIMS_H

#include <stddef.h>
#include <stdint.h>

/// Creates a pair of connected stream sockets that programs started later do not inherit, and whose writers get an
/// error for a closed peer instead of being killed. Returns 0 or an errno value.
int cfs_socket_pair(int *first, int *second);

/// Calls `handler` on a signal, unless the parent process ignores that signal (nohup). Returns 0 or an errno
/// value.
int cfs_catch_signal(int number, void (*handler)(int));

/// Ends the process with that exit code after the given number of milliseconds, whatever its threads are doing. May be
/// called by a signal handler. What `cfs_set_last_words` was given is written to standard error before that.
void cfs_set_deadline(int milliseconds, int exit_code);

/// Keeps a copy of the message for the user if a signal ends the process; NULL for none. Call only a few times.
void cfs_set_last_words(const char *text);

/// Prints it. May be called by a signal handler.
void cfs_say_last_words(void);

/// How many bytes of address space this process may still map (`ulimit -v`); INT64_MAX without a limit.
int64_t cfs_address_space_left(void);

/// Starts the program at `path` with `arguments` (ended by NULL) and this process's environment. Its standard input is
/// `input`, its standard output goes nowhere, its standard error is ours; it inherits no other descriptor that closes
/// on exec. Signals have their default actions, except for termination signals that are ignored here. On Linux it is
/// killed when this process ends, however that happens, even while stopped; elsewhere the program must watch its input.
/// Returns 0 or an errno value.
int cfs_spawn(const char *path, char *const *arguments, int input, int *process);

/// Waits until `descriptor` can be read from (or written to), its peer is gone, or the given number of milliseconds
/// has passed; forever if negative. Returns 1 if there is something to do, 0 on timeout, or a negative errno value.
int cfs_wait_readable(int descriptor, int milliseconds);
int cfs_wait_writable(int descriptor, int milliseconds);

/// Waits until one of `count` descriptors can be read from or lost its peer. `ready` receives 1 for each such one and 0
/// for the others. Returns as the functions above.
int cfs_wait_any_readable(const int *descriptors, uint8_t *ready, size_t count, int milliseconds);

/// Waits until the peer of a connected socket is gone, whatever there is to read. Returns 0 or an errno value.
int cfs_wait_hangup(int descriptor);

/// Reads or writes what is possible without waiting. Returns the bytes moved (0 when reading at the end), or a negative
/// errno value.
int64_t cfs_receive(int descriptor, void *bytes, size_t count);
int64_t cfs_send(int descriptor, const void *bytes, size_t count);

/// Waits for a child process, or checks whether it has ended. Returns its id, 0 if it still runs, or a negative
/// errno value. Of a process that has ended, `exit_code` (or -1) and `signal` (or 0) are set.
int cfs_reap(int process, int wait, int *exit_code, int *signal);

/// The path of the running program. Returns 0 or an errno value.
int cfs_executable_path(char *buffer, size_t capacity);

#endif
